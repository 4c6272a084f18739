"""How trained models do on images of another set: other slides, another scanner.

    python benchmarks/transfer.py icpr2012                    on the `train` images of mitos14_half
    python benchmarks/transfer.py icpr2012 --methods code     of one method alone, or of some; --seed 0 of one training
    python benchmarks/transfer.py --smoke                     a tiny model on synthetic images, to see that all runs

The images are enlarged or shrunk to the size at which the other set's own models see theirs. Prints for each model of
benchmarks/real_data.py, as its method predicts, F1 by the threshold of its training, and for its candidates before
and after the second look the average precision and the best F1 that any threshold gives; writes all to
docs/results/transfer.json. There are more objects here than in the selection part of a fold, and none that are reported
elsewhere: differences of methods show sooner.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from command import in_one_sentence
from decoders import PROTOCOL
from methods import METHODS, training_of
from pointsense.evaluation import Case, evaluate
from pointsense.evaluation.threshold import best_threshold
from pointsense.images import read_image
from pointsense.inference.scaling import rescaled
from pointsense.model.presets import fitted_to
from pointsense.writing import write_json
from provenance import hardware, versions
from real_data import seeds_of, seen_as, trained_runs
from results import result_name
from tasks import SMOKE, TASKS, configured, data_folder, select_tasks, trained_models_parser
from tiling import smoke_run

if TYPE_CHECKING:
    from pointsense.datasets import Sample
    from pointsense.inference.detector import Detector

LEAST = 0.02
"""Of the first network's scores: what is below is no candidate."""


def transferred(detector: Detector, samples: Sequence[Sample], radius: float, scale: float) -> dict[str, Any]:
    """Scores of a detector of one class on images that it sees at `scale` of their size."""
    zoom = scale / detector.config.scale
    first, second = [], []
    for sample in samples:
        image = read_image(sample.path)
        levelled = detector.as_input(image, sample.name)
        maps = detector.maps(rescaled(levelled, scale))
        found = detector.detections([detector.decode_maps(maps)], image.shape[:2], LEAST, zoom)
        looked = detector.looked_at(levelled, found, -1.0, zoom)
        for cases, one in ((first, found), (second, looked)):
            cases.append(Case(sample.name, sample.group, sample.points, one.points, one.scores))
    own = detector.classes[0].threshold
    scores = evaluate(second, radius, threshold=own, protocol=PROTOCOL).overall
    row: dict[str, Any] = {
        "f1": scores.f1,
        "precision": scores.precision,
        "recall": scores.recall,
        "threshold": own,
    }
    for name, cases in (("first", first), ("second", second)):
        best = best_threshold(cases, radius, _decisive(cases, radius), protocol=PROTOCOL, tolerance=0.0)
        row[name] = {"average_precision": best.average_precision, "best_f1": best.f1}
    return row


def _decisive(cases: Sequence[Case], radius: float) -> NDArray[np.float64]:
    """The scores at which precision and F1 can be highest: of what is near an object; all else only takes from both."""
    near = [
        case.score_array()[(cdist(case.detections, case.truth) <= radius).any(axis=1)]
        for case in cases
        if case.detections is not None
    ]
    return np.unique(np.concatenate(near))


def shown(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """The line of a model, or of the mean of some."""
    told = [f"{name}: F1 {np.mean([row['f1'] for row in rows]):.3f} by its own threshold"]
    for look in ("first", "second"):
        precision, f1 = (
            np.mean([row[look][key] for row in rows]) for key in ("average_precision", "best_f1")
        )
        told.append(f"{look} look: average precision {precision:.3f}, best F1 {f1:.3f}")
    return "; ".join(told)


def models(asked: argparse.Namespace) -> Iterator[tuple[str, str, Path]]:
    """The methods, sets and folders of the models that are there, of other sets and the seeds that are asked for."""
    for task, known in select_tasks(asked.sets).items():
        if known.folder == TASKS[asked.to].folder:  # which its own models have learned from
            continue
        for method in asked.methods.split(","):
            learned = method if METHODS[method].refit else training_of(method)
            folders = trained_runs(asked.runs, task, learned)
            if asked.seed:
                wanted = [result_name(task, learned, seed) for seed in seeds_of(asked.seed)]
                folders = [folder for folder in folders if folder.name in wanted]
            for folder in folders:
                yield task, method, folder


@in_one_sentence
def main(arguments: Sequence[str] | None = None) -> int:
    """Score the models of the tasks that are named; 0, or the exit code of what went wrong."""
    from pointsense.inference.detector import Detector

    parser = trained_models_parser(__doc__, "transfer.json")
    parser.add_argument("--to", default="mitos14_half", choices=TASKS, metavar="SET", help="[mitos14_half]")
    parser.add_argument("--methods", default="code,heatmap", help="[code,heatmap]")
    parser.add_argument("--seed", help="of the trainings, several with commas [all]")
    asked = parser.parse_args(arguments)
    if strange := set(asked.methods.split(",")) - set(METHODS):
        parser.error(f"unknown method '{min(strange)}'; use some of {', '.join(METHODS)}")
    if asked.smoke:
        from pointsense.datasets import load_dataset

        with tempfile.TemporaryDirectory() as temporary:
            folder, images = smoke_run(Path(temporary))
            samples = load_dataset(images.parent).val
            row = transferred(Detector.load(folder, device="cpu"), samples, SMOKE.radius, 1.2)
            print(shown("synthetic", [row]))
        return 0
    data, target = data_folder(asked.data), TASKS[asked.to]
    scale = fitted_to(configured(target.preset, target.settings, data), target.radius).scale
    samples = target.load(data).train
    about = {"date": datetime.date.today().isoformat(), "versions": versions(), "hardware": hardware("cpu")}
    rows: dict[str, dict[str, Any]] = {}
    for task, method, folder in models(asked):
        row = transferred(seen_as(task, method, folder, data), samples, target.radius, scale)
        name = f"{method} of {folder.name}"
        rows[name] = row | {"method": method}
        print(shown(name, [row]), flush=True)
        write_json(asked.out, about | {"to": asked.to, "images": len(samples), "models": rows})
    for method in asked.methods.split(","):
        if ours := [row for row in rows.values() if row["method"] == method]:
            print(shown(f"{METHODS[method].title}, {len(ours)} models", ours))
    if not rows:
        print(f"{asked.runs} holds no such model of other sets than that of {asked.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
