"""Train on real image sets, score on their `val` images: one JSON for each set, method and seed.

    python benchmarks/real_data.py                              every set of TASKS, each with its own preset
    python benchmarks/real_data.py vgg_cells bccd               these; bccd stands for bccd-WBC and bccd-RBC
    python benchmarks/real_data.py icpr2012 --method heatmap    another of METHODS; several: --method heatmap,fcrn
    python benchmarks/real_data.py --grid                       all that the comparison asks for and is not there
    python benchmarks/real_data.py --rescore                    the trained models that are there, decoded anew
    python benchmarks/real_data.py --smoke                      a tiny synthetic set, to see that all runs

The sets lie in the folder named by --data or by the environment variable POINTSENSE_DATA. What has a JSON is
skipped, unless it reads a training that has been made again; an interrupted training of ours goes on where it was, a
peer's begins anew. `benchmarks/table.py` makes the tables of docs/results.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cell import CANDIDATES, predicting, run_task
from command import in_one_sentence
from methods import METHODS, Method, training_of
from pointsense.datasets.synthetic import make_synthetic
from pointsense.errors import UsageError
from pointsense.model.config import parse_settings
from pointsense.writing import write_json
from provenance import ROOT
from results import is_there, result_name
from tasks import SMOKE, TASKS, Task, configured, data_folder, select_tasks, views_of

if TYPE_CHECKING:
    from pointsense.inference.detector import Detector


def trained_runs(runs: Path, name: str, method: str = "code") -> list[Path]:
    """Folders of the finished trainings of a method on a set, in the order of their seeds."""
    stem = result_name(name, method)
    seeds = {0} | {
        int(number)
        for folder in runs.glob(f"{stem}-seed*")
        if (number := folder.name.removeprefix(f"{stem}-seed")).isdecimal()
    }
    folders = [runs / result_name(name, method, seed) for seed in sorted(seeds)]
    return [folder for folder in folders if (folder / "metrics.json").exists()]


def seeds_of(given: str) -> list[int]:
    """The seeds that the command line asks for.

    Raises
    ------
    UsageError
        If they are no whole numbers.
    """
    try:
        return [int(seed) for seed in given.split(",")]
    except ValueError:
        raise UsageError(f"--seed is {given}, expected whole numbers with commas") from None


def seen_as(name: str, method: str, folder: Path, data: Path) -> Detector:
    """A trained model that predicts as a method does, which may be otherwise than in its training."""
    from pointsense.inference.detector import Detector

    task, own, learned = TASKS[name], METHODS[method], METHODS[training_of(method)]
    trained = configured(learned.preset or task.preset, task.settings | learned.settings_on(name), data)
    otherwise = own.settings_on(name) if own.trained_as else {}
    return predicting(Detector.load(folder, device="cpu"), views_of(trained) | otherwise)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{', '.join(TASKS)}; all if none is named")
    parser.add_argument("--data", type=Path, help="folder of the sets [POINTSENSE_DATA]")
    parser.add_argument("--out", type=Path, help="folder of the JSON files [docs/results]")
    parser.add_argument("--runs", type=Path, help="folder of the models [runs]")
    parser.add_argument(
        "--method",
        help=f"{', '.join(METHODS)}, or a name for your --set; several with commas [code; --grid: all]",
    )
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--minutes", type=float, help="limit of each training [the set's own]")
    parser.add_argument("--seed", help="several with commas [0; --grid: as many as the comparison asks for]")
    parser.add_argument(
        "--grid", action="store_true", help="the seeds and folds that the comparison asks for"
    )
    parser.add_argument("--overwrite", action="store_true", help="train and score again what has a JSON")
    parser.add_argument("--rescore", action="store_true", help="choose and score again, without training")
    parser.add_argument("--smoke", action="store_true", help="a tiny synthetic set; folders not named vanish")
    return parser.parse_args(arguments)


def methods_of(asked: argparse.Namespace) -> list[str]:
    """The methods that the command line asks for.

    Raises
    ------
    UsageError
        If one is not known and no setting makes it, or settings would change a known one.
    """
    methods = asked.method.split(",") if asked.method else list(METHODS) if asked.grid else ["code"]
    for name in methods:
        if name not in METHODS and (asked.grid or not asked.settings):
            raise UsageError(f"unknown method '{name}': use {', '.join(METHODS)}, or give it a --set")
        if name in METHODS and asked.settings:
            raise UsageError(
                "--set makes another model: name it with --method, so that no other result is lost"
            )
    return methods


def cells(asked: argparse.Namespace, tasks: dict[str, Task]) -> list[tuple[str, str, int]]:
    """Task, method and seed of all that the command line asks for; seed by seed, so that a part is of use."""
    methods, seeds = methods_of(asked), seeds_of(asked.seed or "0")
    if asked.grid:
        wanted = [(seed, task, name) for name in methods for task, seed in METHODS[name].cells()]
        wanted = [cell for cell in wanted if asked.seed is None or cell[0] in seeds]
    else:
        wanted = [(seed, task, name) for name in methods for task in tasks for seed in seeds]
    return [
        (task, name, seed) for seed, task, name in sorted(wanted, key=lambda cell: cell[0]) if task in tasks
    ]


def run_all(asked: argparse.Namespace, tasks: dict[str, Task], data: Path, out: Path, runs: Path) -> None:
    """Run the cells that the command line asks for, writing each JSON as soon as it is there."""
    for name, method_name, seed in cells(asked, tasks):
        task, method = tasks[name], METHODS.get(method_name, Method(method_name))
        learned_name = training_of(method_name)
        learned = METHODS.get(learned_name, method)
        stem = result_name(name, method_name, seed)
        path, run = out / f"{stem}.json", runs / result_name(name, learned_name, seed)
        again = runs / stem if method.refit else None
        if asked.rescore and not ((again or run) / (CANDIDATES if learned.peer else "metrics.json")).exists():
            print(f"{stem}: {again or run} holds no finished training, skipped")
            continue
        outdated = path.exists() and not is_there(out, (name, method_name, seed))
        if path.exists() and not (asked.overwrite or asked.rescore or outdated):
            print(f"{stem}: {path} is there, skipped (--overwrite does it again)")
            continue
        request = {
            "method": learned_name,
            "preset": learned.preset or task.preset,
            "seed": seed,
            "minutes": asked.minutes or task.minutes,
            "settings": task.settings | learned.settings_on(name) | parse_settings(asked.settings),
        }
        if not asked.rescore:
            print(f"{stem}: at most {request['minutes']:g} minutes of training", flush=True)
        overwrite = asked.overwrite or outdated
        result = run_task(
            name, task, method, data, run, request, again, overwrite=overwrite, rescore=asked.rescore
        )
        result["method"] = method_name
        write_json(path, result)
        print(f"{stem}: F1 {result['scores']['overall']['f1']:.3f}; written to {path}", flush=True)


@in_one_sentence
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or the exit code of what went wrong."""
    asked = parse(arguments)
    methods_of(asked)
    if asked.smoke:
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder)
            make_synthetic(temporary / SMOKE.folder, images=6, size=64)
            out, runs = asked.out or temporary / "results", asked.runs or temporary / "runs"
            run_all(asked, {"synthetic": SMOKE}, temporary, out, runs)
        return 0
    data = data_folder(asked.data)
    out, runs = asked.out or ROOT / "docs" / "results", asked.runs or ROOT / "runs"
    run_all(asked, select_tasks(asked.sets), data, out, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
