"""How far two expert labellings of TUPAC16 agree: what a detector can hope for.  [Bertram et al. 2020]"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointsense.datasets.official.slide_runner import read_slide_runner
from pointsense.errors import DataError
from pointsense.evaluation import Case, Report, evaluate

ORIGINAL, ALTERNATIVE = "TUPAC_stitched.sqlite", "TUPAC_alternativeLabels_augmented_training.sqlite"
MITOSES = {ORIGINAL: "Mitosis", ALTERNATIVE: "Mitose"}

RADIUS = 30.0
"""px of the stitched slides, 7.5 um."""


def tupac16_agreement(folder: Path | str) -> Report:
    """The alternative labels scored against the original ones, one to one, case by case in stitched pixels.

    Parameters
    ----------
    folder : path
        With both data bases of TUPAC16_AlternativeLabels.

    Raises
    ------
    DataError
        If one is missing, or they do not name the same slides.
    """
    folder = Path(folder)
    missing = [name for name in MITOSES if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {' and '.join(missing)}; they are to be had from "
            "github.com/DeepMicroscopy/TUPAC16_AlternativeLabels"
        )
    original, alternative = (
        {
            slide: kinds.get(kind, np.zeros((0, 2)))
            for slide, kinds in read_slide_runner(folder / name).items()
        }
        for name, kind in MITOSES.items()
    )
    if set(original) != set(alternative):
        alone = sorted(set(original) ^ set(alternative))
        raise DataError(f"one of the data bases of {folder} alone has {alone[0]}; download both again")
    for name, of_slides in ((ORIGINAL, original), (ALTERNATIVE, alternative)):
        if not any(map(len, of_slides.values())):
            raise DataError(f"{folder / name} has no point of the class {MITOSES[name]}; download it again")
    cases = [Case(slide, None, truth, alternative[slide]) for slide, truth in sorted(original.items())]
    return evaluate(cases, RADIUS)
