"""check, convert: what a data set is like, and how one is made of a download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pointsense.cli.options import (
    Data,
    Images,
    Out,
    Overwrite,
    PixelSize,
    Radius,
    Scale,
    SplitFile,
    ValFold,
)
from pointsense.cli.words import counted


def check(data: Data, radius: Radius = None, split_file: SplitFile = None, val_fold: ValFold = None) -> None:
    """Look for what would spoil a training: exit code 1 for errors, 0 for warnings alone."""
    from pointsense import datasets

    radii = datasets.parse_radii(radius or [])
    findings = datasets.check(
        data, split_file=split_file, val_fold=val_fold, radius=min(radii.values(), default=None)
    )
    for finding in findings:
        print(f"{finding.level}: {finding.message}")
    if summary := datasets.summary(data, split_file=split_file, val_fold=val_fold):
        print(summary)
    errors = sum(finding.level == "error" for finding in findings)
    print(f"{data}: {counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}")
    if errors:
        raise typer.Exit(1)


def convert(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a download, or of an export.")],
    name: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NAME",
            help="icpr2012, mitos14, amida13, tupac16, tupac16-alternative, midog, crchisto, vgg, coco, voc, qupath, "
            "cvat or napari.",
        ),
    ],
    out: Out,
    images: Images = None,
    scale: Scale = 1.0,
    um_per_px: PixelSize = None,
    link: Annotated[bool, typer.Option("--link", help="Link to the images instead of copying them.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Bring what was downloaded from a contest, or exported by a tool, to images/ and points.csv."""
    from collections import Counter

    from pointsense.datasets.convert import write_dataset
    from pointsense.datasets.official import read_official
    from pointsense.errors import UsageError
    from pointsense.writing import claim_folder

    claim_folder(out, overwrite=overwrite)
    read = {source.resolve(), (images or source).resolve()}
    if read & {out.resolve(), *out.resolve().parents}:
        raise UsageError(f"--out {out} lies in the folder that is read; give another")
    reading = read_official(name, source, images=images, scale=scale, um_per_px=um_per_px)
    dataset = reading.sound()
    for note in reading.notes:
        print(f"note: {note}")
    write_dataset(dataset, out, link=link, overwrite=overwrite)
    samples = dataset.samples
    kinds = Counter(kind for sample in samples for kind in sample.classes)
    listed = ", ".join(f"{count} {kind or 'points'}" for kind, count in sorted(kinds.items())) or "no points"
    print(f"{counted(len(samples), 'image')}, {listed}: {out}")
