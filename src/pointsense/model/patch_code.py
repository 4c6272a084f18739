"""The paper's code of a patch: points on observation axes, measured and recovered."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointsense.encoding import CapacityWarning, ObservationAxes, capacity, measure, sensing_matrix
from pointsense.model.config import Config
from pointsense.recovery import LISTA, ConvergenceWarning, SparseRecovery

log = logging.getLogger(__name__)


class PatchCode(nn.Module):
    """Encoding and recovery of patches of one size (section 3 of the paper).

    The labels' sensing matrix D0 stays fixed; with `learn_sensing` the recovery has one of its own that starts
    equal, so that learning it does not move the labels.
    """

    sensing_matrix: Tensor
    unit: Tensor

    def __init__(self, config: Config):
        super().__init__()
        self.told = False
        self.axes = ObservationAxes(config.patch, config.patch, config.axes, arc=config.arc)
        self.channels = config.channels
        self.shape = (config.axes, 1 if config.channels == "distance" else 2, config.measurements)
        D = sensing_matrix(
            config.measurements,
            self.axes.bins,
            config.sensing,
            sigma=config.sensing_sigma,
            seed=config.sensing_seed,
        )
        self.register_buffer("sensing_matrix", D, persistent=False)
        # Mass x distance in units of R, or its channel would outweigh the mass in the L2 loss.
        unit = [1.0] if config.channels == "distance" else [1.0, float(self.axes.half_length)]
        self.register_buffer("unit", torch.tensor(unit)[:, None], persistent=False)
        steps = config.recovery_steps or None
        self.recovery: nn.Module
        if config.recovery == "lista":
            self.recovery = LISTA(D, config.lam, steps=steps or 16)
        else:
            self.recovery = SparseRecovery(
                D,
                config.lam,
                method=config.recovery,
                backward=config.backward,
                ridge=1e-3 if config.backward == "exact" else 0.0,
                max_iter=steps,
                learn_sensing=config.learn_sensing,
            )

    @property
    def capacity(self) -> int:
        """How many points of a patch an axis brings back."""
        return capacity(self.shape[2], self.axes.bins)

    @property
    def scale(self) -> float:
        """The size of a code's entries for one point: what a network's output of 1 stands for."""
        typical = self.axes.half_length if self.channels == "distance" else 1.0
        return typical / self.shape[2] ** 0.5

    def encode(self, points: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Signals (B, L, C, n) and codes (B, L, C, m), eq. (1), of the points (K, 2) of each patch."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CapacityWarning)  # said once, before training
            signal = torch.stack([self.axes.encode(p, self.channels).signal for p in points])
        signal = signal.to(self.sensing_matrix.device) / self.unit
        return signal, measure(signal, self.sensing_matrix)

    def recover(self, codes: Tensor) -> Tensor:
        """Sparse signals (B, L, C, n) of codes (B, L, C, m), eq. (4); differentiable by the chosen rule.

        That a solver ran out of iterations is logged the first time: training would repeat it every step.
        """
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", ConvergenceWarning)
            signal = self.recovery(codes)
        for warning in said:
            if not issubclass(warning.category, ConvergenceWarning):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
            elif not self.told:
                self.told = True
                log.warning("recovery in training: %s (said once)", warning.message)
        return signal
