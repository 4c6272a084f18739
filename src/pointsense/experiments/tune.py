"""Random search over what the paper searched: measurements, axes, the losses' weights, lambda, the bandwidth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pointsense.datasets import Dataset
from pointsense.errors import DataError, UsageError
from pointsense.learning.course import Progress
from pointsense.learning.fit import train
from pointsense.model.config import Config, override, with_defaults
from pointsense.model.presets import fitted_to
from pointsense.writing import replacing, write_json

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

JOURNAL, TRIALS = "journal.log", "trials.json"

REACH = {"axes": 2.0, "measurements": 2.0, "beta": 8.0, "lam": 4.0, "alpha": 8.0, "bandwidth": 2.0}
"""How far from its value each setting is searched: so many times less, and more, alike in the logarithm."""

LIMITS = ("max_train_images", "time_limit")
"""Options of `train` that a search must not be gone on with another value of."""

STATES = {"COMPLETE": "finished", "PRUNED": "given up", "FAIL": "failed"}

UNPRUNED = 4
"""Trials that run to their end before any is compared with their median."""

Told = Callable[[int, dict[str, Any], str], None]
"""Is given a trial's number, its settings, and what became of it ("" at its start)."""


def searched(config: Config) -> list[str]:
    """The settings that are searched: those that the configuration makes use of."""
    if config.target == "heatmap":  # it learns no code
        return []
    unused = set()
    if config.head == "projection":  # it has no mean shift, and no lasso but in the L1 term
        unused = {"bandwidth"} if config.alpha else {"bandwidth", "lam"}
    return [name for name in REACH if name not in unused and getattr(config, name) > 0]


def tune(
    dataset: Dataset,
    out: Path | str,
    config: Config,
    *,
    radius: Mapping[str, float],
    trials: int,
    seed: int = 0,
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
    told: Told | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Train with the configuration as it is, then with random settings around it.

    A trial is scored on its selection part, the same images of `train` in each. One whose best score so far is below
    the median of the finished ones' at the same check is given up. What was killed goes on where it was, with the same
    draws; a trial whose training fails is told, and the search goes on.

    Parameters
    ----------
    dataset : Dataset
        Its `val` samples are never opened.
    out : path
        Folder of the run folders (`0000` is the configuration as it is), of the journal and of `trials.json`.
    config : Config
    radius : mapping of class name to float
        See `train`.
    trials : int
        How many there are to be in all, those of a search that is resumed included.
    seed : int
        Of the draws and of each training.
    resume : bool
        Go on with the search in `out`.
    report, told : callable, optional
        Given the progress of each training, and each trial's start and end.
    **options
        For `train`.

    Returns
    -------
    list of dict
        What `trials.json` holds: number, settings, state, score, seconds and folder of each trial.

    Raises
    ------
    UsageError
        If optuna is not installed, nothing can be searched, or `out` holds another search.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    except ImportError:
        raise UsageError("tune needs optuna: pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    out = Path(out)
    known = fitted_to(config, float(np.median(list(radius.values()))))
    if not searched(known):
        raise UsageError(f"the preset '{config.preset}' uses none of {', '.join(REACH)}: nothing to search")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file, expected a folder to write to; give another --out")
    if not resume and out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty; use --resume to go on with its search, or give another --out")
    if resume and not (out / JOURNAL).is_file():
        raise UsageError(f"{out} holds no search to go on with ({JOURNAL} is not there); leave out --resume")
    out.mkdir(parents=True, exist_ok=True)
    journal = str(out / JOURNAL)
    _without_half_a_line(out / JOURNAL)
    study = optuna.create_study(
        study_name="tune",
        storage=optuna.storages.JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal))),
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED),
        load_if_exists=True,
    )
    samples = [sample.name for sample in dataset.train]
    request = {"settings": known.model_dump(), "radius": dict(radius), "seed": seed, "images": samples}
    _begin(study, request | {"options": {name: options.get(name) for name in LIMITS}}, searched(known))
    while len(rows := _rows(study)) < trials:
        study.sampler = optuna.samplers.RandomSampler(seed=seed * 100_003 + len(rows))
        trial = study.ask()
        settings = _draw(trial, known)
        folder = trial.user_attrs.get("folder") or f"{len(rows):04d}"
        trial.set_user_attr("folder", folder)
        if told:
            told(len(rows), settings, "")
        try:
            metrics = train(
                dataset,
                out / folder,
                override(config, settings),
                radius=radius,
                seed=seed,
                resume=True,
                report=_watched(trial, report),
                **options,
            )
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            outcome = "given up: below the median of the others"
        except DataError as error:
            outcome = f"failed: {error}"
            trial.set_user_attr("problem", str(error))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, metrics["selection"]["f1"])
            outcome = f"F1 {metrics['selection']['f1']:.3f} on the selection images"
        if told:
            told(len(rows), settings, outcome)
        write_json(out / TRIALS, _rows(study))
    return rows


def _begin(study: Study, request: dict[str, Any], names: list[str]) -> None:
    """Queue the configuration as it is, or what a kill has interrupted.

    Raises
    ------
    UsageError
        If the study was begun with another request.
    """
    from optuna.trial import TrialState

    before = study.user_attrs.get("request")
    if before is None:
        study.set_user_attr("request", request)
        study.enqueue_trial({name: request["settings"][name] for name in names})
    elif (before := before | {"settings": with_defaults(before["settings"])}) != request:
        differing = [key for key in request if before.get(key) != request[key]]
        raise UsageError(
            f"the search was begun with other {' and '.join(differing)}; give the same options to --resume"
        )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs=trial.user_attrs | {"checks": trial.intermediate_values})


def _draw(trial: Trial, config: Config) -> dict[str, Any]:
    """Settings of a trial."""
    drawn: dict[str, Any] = {}
    for name in searched(config):
        value, reach = getattr(config, name), REACH[name]
        if isinstance(value, int):
            high = round(value * reach)
            if name == "measurements" and config.head == "projection":  # more would not compress
                high = min(high, config.window**2 // (2 * drawn["axes"]))
            drawn[name] = trial.suggest_int(name, min(max(1, math.ceil(value / reach)), high), high, log=True)
        else:
            drawn[name] = trial.suggest_float(name, value / reach, value * reach, log=True)
    return drawn


def _watched(trial: Trial, report: Callable[[Progress], None] | None) -> Callable[[Progress], None]:
    """A report that ends a trial which is worse than the others were at the same check."""
    from optuna import TrialPruned

    checks = {int(check): f1 for check, f1 in trial.user_attrs.get("checks", {}).items()}
    for check, f1 in checks.items():  # of before a kill
        trial.report(f1, check)
    seen = max(checks, default=0)

    def watch(progress: Progress) -> None:
        if report:
            report(progress)
        nonlocal seen
        if progress.checks > seen and progress.selection_f1 is not None:
            seen = progress.checks
            trial.report(progress.selection_f1, seen)
            if trial.should_prune():
                raise TrialPruned

    return watch


def _rows(study: Study) -> list[dict[str, Any]]:
    """The trials that came to an end."""
    from optuna.trial import TrialState

    def row(number: int, trial: FrozenTrial) -> dict[str, Any]:
        return {
            "number": number,
            "folder": trial.user_attrs["folder"],
            "settings": trial.params,
            "state": STATES[trial.state.name],
            "problem": trial.user_attrs.get("problem"),
            "selection_f1": trial.value if trial.state == TrialState.COMPLETE else None,
            "checks": list(trial.intermediate_values.values()),
            "seconds": None if trial.duration is None else round(trial.duration.total_seconds(), 1),
        }

    ended = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or "problem" in trial.user_attrs
    ]
    return [row(number, trial) for number, trial in enumerate(ended)]


def _without_half_a_line(journal: Path) -> None:
    """Cut off what a full disk, or the power, left of a journal's last line."""
    if journal.is_file() and not (content := journal.read_bytes()).endswith(b"\n"):
        with replacing(journal) as temporary:
            temporary.write_bytes(content[: content.rfind(b"\n") + 1])
