"""Writing a data set, however it was read, as `images/` and tables."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from pointsense.datasets.dataset import LOOK_ALIKE, Dataset
from pointsense.datasets.listing import find_images
from pointsense.errors import DataError, UsageError
from pointsense.writing import claim_folder, replacing, write_json, write_table

log = logging.getLogger(__name__)


def write_dataset(dataset: Dataset, out: Path | str, *, link: bool = False, overwrite: bool = False) -> None:
    """Write `images/`, `points.csv`, and what is known of `split.csv`, `groups.csv` and `dataset.json`.

    Parameters
    ----------
    dataset : Dataset
    out : path
        A folder that is empty, or not there.
    link : bool
        Whether images become symbolic links in place of copies.
    overwrite : bool
        Replace files of the same names. A table of before that this data set has nothing for is set aside, as
        `split.csv.before`, which is logged.

    Raises
    ------
    UsageError
        If `out` holds something and `overwrite` is not given; if it holds images of the data set, or others.
    DataError
        If a file cannot be read or written; the tables are written last, so that a part is no data set.
    """
    out, samples = claim_folder(out, overwrite=overwrite), dataset.samples
    if inner := [sample.path for sample in samples if out.resolve() in sample.path.resolve().parents]:
        raise UsageError(f"the image {inner[0]} lies in {out}, which is to be written; give another --out")
    written = {sample.name for sample in samples}
    if stale := [name for name in find_images(out / "images") if name not in written]:
        raise UsageError(
            f"{out} holds images that are not of this data set ({len(stale)}, first {stale[0]}) and would become "
            "empty ones of it; give another --out"
        )
    if lost := [sample.path for sample in samples if not os.access(sample.path, os.R_OK)]:
        raise DataError(f"cannot read the image {lost[0]}: it is not there, or its permissions forbid it")
    divided = any(sample.split != "train" for sample in samples)
    groups = [(s.name, s.group) for s in samples] if dataset.has_groups else []
    scale = {
        "um_per_px": dataset.um_per_px,
        "radius_px": dataset.radius_px or None,
        "smallest_radius_px": dataset.smallest_radius_px,
    }
    known = {key: value for key, value in scale.items() if value is not None}
    for name, content in (("split.csv", divided), ("groups.csv", groups), ("dataset.json", known)):
        if not content and (out / name).exists():
            os.replace(out / name, out / f"{name}.before")
            log.warning("%s is not of this data set: set aside as %s.before", out / name, name)
    (out / "points.csv").unlink(missing_ok=True)
    for sample in samples:
        with replacing(out / "images" / sample.name) as temporary:
            if link:
                os.symlink(sample.path.resolve(), temporary)
            else:
                shutil.copyfile(sample.path, temporary)
    if divided:
        write_table(out / "split.csv", ("image", "split"), [(s.name, s.split) for s in samples if s.split])
    if groups:
        write_table(out / "groups.csv", ("image", "group"), groups)
    if known:
        write_json(out / "dataset.json", known)
    rows = [
        (s.name, f"{y:.3f}", f"{x:.3f}", name)
        for s in samples
        for (y, x), name in [
            *zip(s.points, s.classes, strict=True),
            *((p, LOOK_ALIKE) for p in s.look_alikes),
        ]
    ]
    write_table(out / "points.csv", ("image", "y", "x", "class"), rows)
