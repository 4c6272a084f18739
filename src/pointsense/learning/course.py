"""A training on its way: steps, checks on the selection part, checkpoints and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pointsense.inference.detector import Detector
from pointsense.learning.checkpoint import NAME, SECONDS, write_checkpoint
from pointsense.learning.crops import Alarm
from pointsense.learning.mining import known_alarms
from pointsense.learning.run_folder import Checkpoint, Row, write_history
from pointsense.learning.selection import Selection
from pointsense.learning.training import Training
from pointsense.model.network import ProjectionNetwork

ROW_STEPS = 20
"""Steps averaged in a row of history.csv."""

LAST_CHECK = 3.0
"""How much longer than a check during training the last one takes, which tries every reading."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands, after so many checks; `stage` is what is learned, if not the network itself.

    In place of F1 a peer tells its merit.
    """

    step: int
    steps: int
    loss: float
    selection_f1: float | None
    seconds: float
    seconds_left: float
    stage: str = ""
    checks: int = 0


OnProgress = Callable[[Progress], None]


@dataclass
class State:
    """What a checkpoint keeps beside the tensors."""

    step: int = 0
    seconds: float = 0.0
    checks_done: int = 0
    checked: float = 0.0
    check_seconds: float = 0.0
    best_merit: float = -1.0
    best_step: int = 0
    rows: list[Row] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)


class Course:
    """A training, from its first step or from a checkpoint to its last check.

    Without a selection part nothing is checked, and the last weights are kept. The clock runs from `begun`, as
    `time.monotonic` tells it: what comes before the first step counts as checks do.
    """

    def __init__(
        self,
        out: Path,
        request: dict[str, Any],
        training: Training,
        detector: Detector,
        selection: Selection | None,
        time_limit: float | None,
        report: OnProgress | None,
        begun: float,
    ):
        self.out, self.request, self.training = out, request, training
        self.detector, self.selection, self.report = detector, selection, report
        self.limit = math.inf if time_limit is None else 60 * time_limit
        self.state = State()
        self._keep()
        self.window: list[dict[str, float]] = []
        self.started, self.saved = begun, time.monotonic()
        self.told = self.saved
        self.state.checked = self.saved - begun

    def restore(self, stored: Checkpoint) -> None:
        """Go on from a checkpoint."""
        parts, values = stored
        self.state = State(**values["state"])
        found = parts.pop("alarms", {}).get("", torch.tensor(self.state.alarms)).tolist()
        self.state.alarms = [Alarm(int(k), *rest) for k, *rest in found]
        if self.state.alarms:
            self.training.crops.alarms = self.state.alarms
        self.best = parts.pop("best")
        self.training.descent.restore(parts)
        self.started = time.monotonic() - self.state.seconds

    @property
    def seconds(self) -> float:
        """Of training so far, earlier parts included."""
        return time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """Share of the training that is done, by steps or by the clock, which leaves time for the last check.

        However long checks take, a third of the limit is for steps.
        """
        checks = self.state.checked + LAST_CHECK * self.state.check_seconds
        for_steps = max(self.limit - checks, self.limit / 3)
        return max(
            self.state.step / self.training.config.steps, (self.seconds - self.state.checked) / for_steps
        )

    def run(self) -> None:
        """Step after step to the end; the last check is done, and `best` holds the weights to keep."""
        checks = self.training.config.checks
        while (progress := self.progress) < 1:
            if progress * checks >= self.state.checks_done + 1:
                self.state.checks_done = int(progress * checks)
                # Longer ones would leave no time to learn.
                if checks * self.state.check_seconds < self.limit / 2:
                    self._check()
                self._mine()
                self._save()
            self._step(progress)
            if not self.window and time.monotonic() - self.saved > SECONDS:
                self._save()
            if self.report and self.window and time.monotonic() - self.told > 1:
                self.report(self._told())
        self._close_row()
        self._save()
        self._check()

    def _step(self, progress: float) -> None:
        terms = self.training.step(self.state.step, progress)
        self.state.step += 1
        self.window.append(terms)
        if len(self.window) == ROW_STEPS:
            self._close_row()

    def _check(self) -> None:
        """Score the averaged weights; keep them if they are the best so far."""
        begun, f1 = time.monotonic(), None
        if self.selection is None:
            self._keep()
        else:
            choices = self.selection.choose(self.detector, blurs=())
            merit = float(np.mean([choice.merit for choice in choices]))
            # The latest of those that are as good as the best to a standard error: on few points chance looks good.
            if merit >= self.state.best_merit - self.selection.mean_error:
                self.state.best_merit = max(merit, self.state.best_merit)
                self._keep()
            f1 = float(np.mean([choice.threshold.f1 for choice in choices]))
        self._close_row(f1)
        write_history(self.out, self.state.rows)
        self.state.check_seconds = time.monotonic() - begun
        self.state.checked += self.state.check_seconds
        self.told = 0.0

    def _keep(self) -> None:
        self.state.best_step = self.state.step
        self.best = {name: value.clone() for name, value in self.training.averaged.state_dict().items()}

    def _mine(self) -> None:
        """Find out where the averaged network raises false alarms on the images that are fitted."""
        network = self.training.averaged
        if self.training.config.hard > 0 and isinstance(network, ProjectionNetwork):
            fields, config = self.training.crops.fields, self.training.config
            self.state.alarms = known_alarms(network, fields, config, self.detector.device)
            self.training.crops.alarms = self.state.alarms

    def _close_row(self, f1: float | None = None) -> None:
        """End a row of the history with the steps since the last one; without any, the last row has the F1."""
        rows = self.state.rows
        if not self.window and rows and rows[-1]["step"] == self.state.step:
            rows[-1] = rows[-1] | {"selection_f1": f1}
            return
        names = ("loss", "l2", "l1", "count")
        means = {
            name: float(np.mean([w[name] for w in self.window])) if self.window else None for name in names
        }
        rows.append({"step": self.state.step, **means, "selection_f1": f1, "seconds": round(self.seconds, 1)})
        self.window = []

    def _save(self) -> None:
        self.state.seconds = self.seconds
        alarms = torch.tensor(self.state.alarms, dtype=torch.float64).reshape(-1, 4)
        write_checkpoint(
            self.out / NAME,
            self.training.descent.tensors() | {"best": self.best, "alarms": {"": alarms}},
            {"request": self.request, "state": asdict(replace(self.state, alarms=[]))},
        )
        self.saved = time.monotonic()

    def _told(self) -> Progress:
        self.told = time.monotonic()
        left = min(self.seconds * (1 / max(self.progress, 1e-3) - 1), self.limit)
        f1s = [row["selection_f1"] for row in self.state.rows if row["selection_f1"] is not None]
        steps, loss = self.training.config.steps, self.window[-1]["loss"]
        f1 = f1s[-1] if f1s else None
        return Progress(self.state.step, steps, loss, f1, self.seconds, left, checks=self.state.checks_done)
