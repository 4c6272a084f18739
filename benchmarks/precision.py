"""What half precision changes: trained models read in float32 and in bfloat16, by the thresholds that they have.

    python benchmarks/precision.py vgg_cells icpr2012     all seeds that benchmarks/real_data.py trained
    python benchmarks/precision.py --smoke                a tiny model on synthetic images, to see that all runs

Prints for each model F1 and count error on the `val` images in both, the share of the points in float32 that are found
within half a px in half precision, and how much faster that is, image by image in turns; writes all to
docs/results/precision.json.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from command import in_one_sentence
from decoders import PROTOCOL
from pointsense.evaluation import Case, evaluate, match
from pointsense.images import read_image
from pointsense.writing import write_json
from provenance import hardware, versions
from real_data import trained_runs
from tasks import SMOKE, data_folder, select_tasks, trained_models_parser
from tiling import WITHIN, smoke_run

if TYPE_CHECKING:
    from pointsense.datasets import Sample

FULL, HALF = "32-true", "bf16-mixed"


def compare(folder: Path, samples: Sequence[Sample], radius: float) -> dict[str, Any]:
    """Scores, shares and seconds of the model in a folder, in both precisions on the same images."""
    from pointsense.inference.detector import Detector

    detectors = {name: Detector.load(folder, device="cpu", precision=name) for name in (FULL, HALF)}
    cases: dict[str, list[Case]] = {name: [] for name in detectors}
    seconds = dict.fromkeys(detectors, 0.0)
    for detector in detectors.values():
        detector.predict(read_image(samples[0].path))  # what is prepared once is not timed
    for sample in samples:
        image = read_image(sample.path)
        for name, detector in detectors.items():
            begin = time.perf_counter()
            found = detector.predict(image, name=sample.name)
            seconds[name] += time.perf_counter() - begin
            cases[name].append(Case(sample.name, sample.group, sample.points, found.points, found.scores))
    scores = {name: evaluate(ours, radius, protocol=PROTOCOL).overall for name, ours in cases.items()}
    pairs = zip(cases[FULL], cases[HALF], strict=True)
    same = sum(match(one.detections, other.detections, WITHIN).true_positives for one, other in pairs)
    return {
        "f1": {name: one.f1 for name, one in scores.items()},
        "count_mae": {name: one.count_mae for name, one in scores.items()},
        "same": same / max(1, sum(len(case.detections) for case in cases[FULL])),
        "times_faster": seconds[FULL] / seconds[HALF],
    }


def shown(name: str, row: dict[str, Any]) -> str:
    """The line of a model."""
    f1, error = row["f1"], row["count_mae"]
    return (
        f"{name}: F1 {f1[FULL]:.4f} and {f1[HALF]:.4f} in half precision, count MAE {error[FULL]:.2f} and "
        f"{error[HALF]:.2f}; {row['same']:.1%} of the points within {WITHIN:g} px; "
        f"{row['times_faster']:.1f} times faster"
    )


def models(asked: argparse.Namespace) -> Iterator[tuple[Path, list[Sample], float]]:
    """The folders of the models that are there, their `val` images and match radii."""
    data = data_folder(asked.data)
    for name, task in select_tasks(asked.sets).items():
        for folder in trained_runs(asked.runs, name):
            yield folder, list(task.load(data).val), task.radius


@in_one_sentence
def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the models of the tasks that are named; 0, or the exit code of what went wrong."""
    asked = trained_models_parser(__doc__, "precision.json").parse_args(arguments)
    if asked.smoke:
        from pointsense.datasets import load_dataset

        with tempfile.TemporaryDirectory() as temporary:
            folder, images = smoke_run(Path(temporary))
            print(shown("synthetic", compare(folder, list(load_dataset(images.parent).val), SMOKE.radius)))
        return 0
    about = {"date": datetime.date.today().isoformat(), "versions": versions(), "hardware": hardware("cpu")}
    rows: dict[str, Any] = {}
    for folder, samples, radius in models(asked):
        rows[folder.name] = compare(folder, samples, radius)
        print(shown(folder.name, rows[folder.name]), flush=True)
        write_json(asked.out, about | {"within_px": WITHIN, "models": rows})
    if not rows:
        print(f"{asked.runs} holds no model of these sets")
    return 0


if __name__ == "__main__":
    sys.exit(main())
