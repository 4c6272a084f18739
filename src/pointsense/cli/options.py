"""Options and arguments that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Folder with images/ and points.csv (image,y,x[,class]), or train/ and val/ with a.tif and a.csv; or "
        "NAME:DIR of convert's names.",
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to.")]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace what lies in DIR under the names that the command writes, as an earlier run's results; predict "
        "also deletes those of images that are no longer there.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a training that was stopped.")]
Radius = Annotated[
    list[str] | None,
    typer.Option(
        "--radius",
        metavar="[CLASS=]PX",
        help="Match radius in image pixels, of all or of a class; else what --protocol, dataset.json or --model says, "
        "or estimated from the spacing of the points.",
    ),
]
ClassNames = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help="Use the points of this class only; several: classes that are told apart.",
    ),
]
SplitFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="CSV (image,split or image,fold) in place of split.csv.")
]
ValFold = Annotated[str | None, typer.Option(metavar="K", help="The fold of --split-file that is val.")]
PresetName = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="pointsense; mitoses (rare); nuclei (of many sizes); the paper's cnncs, ecnncs-1, ecnncs-2.",
    ),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, on top of the preset.")
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="The backbone's pretrained weights (safetensors)."),
]
EachClass = Annotated[
    bool, typer.Option("--each-class", help="Tell all classes of DATA apart; else all points are one kind.")
]
MaxTrainImages = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Only the first N train images by name.")
]
TimeLimit = Annotated[
    float | None, typer.Option(min=0.01, metavar="MIN", help="Stop each training after so many minutes.")
]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="Where the images are, if not below DIR.")
]
Scale = Annotated[
    float, typer.Option(help="Size of the images in sizes of the labelled ones: 0.5 for shrunken copies.")
]
PixelSize = Annotated[
    float | None,
    typer.Option("--um-per-px", metavar="UM", help="Pixel size, where it is not that of the download."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Threshold = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        "-t",
        metavar="[CLASS=]T",
        help="Least score, of all or of a class; else the model's own.",
    ),
]
Diameter = Annotated[
    str | None,
    typer.Option(
        metavar="PX|auto",
        help="Typical diameter of the objects, auto to try several; else as in the training images.",
    ),
]
Views = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Rotations and flips to average, 1, 2, 4 or 8, in place of the model's own; 1 is the fastest. "
        "Thresholds stay as they are.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="auto (half precision where the device is fast at it), 32-true, bf16-mixed or 16-mixed, in place of the "
        "model's own; with 32-true points hardly depend on the processor.",
    ),
]
Tile = Annotated[
    int,
    typer.Option(
        "--tile",
        "--tile-size",
        min=64,
        metavar="PX",
        help="Side of what is predicted at once, in px of the model's working resolution.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of everything random.")]
