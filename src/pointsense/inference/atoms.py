"""Atoms, points with masses, and what they leave unexplained of the codes of one image."""

from __future__ import annotations

import torch
from torch import Tensor

from pointsense.encoding import ProjectionCode
from pointsense.model.classes import Reading

MOMENTUM = 0.5
"""Share of a step that goes into the next: without it neighbours that share their mass settle slowly; with much more,
positions are still moving at the end."""

MASS_STEP, POSITION_STEP = 0.5, 0.3
"""Shares of the step that would be right for a lone atom."""

LIGHT = 0.2
"""Atoms of less mass move as if they had it: their gradients tell little of where they belong."""


class Atoms:
    """The codes x of one image, compared with those of atoms (K, 2) of masses (K,), in cells of the mass map.

    Attributes
    ----------
    energy : float
        |phi(p)|^2 of an atom of unit mass, on average.
    of_a_point : float
        The mass that an atom takes of a point of unit mass: 1 without blur, more with it.
    stiffness : float
        Curvature of 1/2 |x - phi(p)|^2 in a coordinate of the atom that explains x.
    extent : Tensor, (2,)
        Cells that the windows cover, in y and x.
    """

    def __init__(self, code: ProjectionCode, codes: Tensor, reading: Reading):
        self.code = code
        self.lattice = (codes.shape[1], codes.shape[2])
        # (windows, L, m), contiguous: strides would make products slow.
        self.x = code.per_axis(codes[None])[0].contiguous()
        self.D = code.blurred(reading.blur)
        self.back_projected, self.gram = self.x @ self.D, self.D.T @ self.D
        self.kernel = code.kernel_of(reading.blur)
        self.extent = torch.tensor([n * code.hop - code.margin for n in self.lattice], device=codes.device)
        column = self.D.square().sum(0)
        slope = (self.D[:, 1:] - self.D[:, :-1]).square().sum(0)
        middle = slice(code.bins // 4, -code.bins // 4)
        energy = code.axes * (code.window / (2 * code.hop)) ** 2  # squared tapers, summed over windows
        self.energy = float(column[middle].mean() * energy)
        self.of_a_point = float((code.sensing_matrix * self.D).sum(0)[middle].mean() / column[middle].mean())
        self.stiffness = float(slope[middle].mean() * energy / 2)  # an axis sees one of two coordinates

    def signals(self, p: Tensor, mass: Tensor) -> Tensor:
        """Tapered mass of the atoms on each axis of each window, (windows, L, n)."""
        return self.code.signals(p, mass, self.lattice)

    def residual(self, p: Tensor, mass: Tensor) -> Tensor:
        """x - sum_k mass_k phi(p_k), (windows, L, m)."""
        return self.x - self.signals(p, mass) @ self.D.T

    def correlate(self, p: Tensor, mass: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the residual r: <phi_l(p), r> (K, L), its derivative along the axis (K, L), its whole gradient (K, 2)."""
        at = self.code.footprint(p, self.lattice)
        signals = self.code.signals_at(at, mass, self.lattice)
        signal = (self.back_projected - signals @ self.gram).flatten()
        low, along = signal[at.index], signal[at.index + 1] - signal[at.index]
        value = low + along * at.share
        weight = at.weight[..., None]
        each, each_along = (value * weight).sum(1), (along * weight).sum(1)
        gradient = each_along @ self.code.directions + (value.sum(-1)[..., None] * at.slope).sum(1)
        return each, each_along, gradient

    def slide(self, p: Tensor, mass: Tensor, cap: float, steps: int) -> tuple[Tensor, Tensor]:
        """Descend in positions and masses together; steps are scaled by the curvature of a lone atom."""
        p, mass = p.clone(), mass.clone()
        last = torch.zeros_like(p), torch.zeros_like(mass)
        for _ in range(steps):
            self.move(p, mass, last, cap)
        return p, mass

    def move(self, p: Tensor, mass: Tensor, last: tuple[Tensor, Tensor], cap: float) -> None:
        """A step of `slide`, in place; `last` are the changes of p and mass in the step before, then in this one."""
        velocity, growth = last
        each, _, gradient = self.correlate(p, mass)
        step = gradient / (self.stiffness * mass.clamp(min=LIGHT)[:, None])
        velocity.mul_(MOMENTUM).add_(step.clamp_(-1, 1), alpha=POSITION_STEP)
        growth.mul_(MOMENTUM).add_(each.sum(1), alpha=MASS_STEP / self.energy)
        mass.add_(growth).clamp_(0, cap)
        p.add_(velocity).clamp_(min=-0.499)
        torch.minimum(p, self.extent - 0.501, out=p)

    def certificate(self, residual: Tensor) -> Tensor:
        """The mass that one atom at each cell would take from the residual, (H, W)."""
        maps = residual.permute(1, 2, 0).reshape(1, self.code.numbers, *self.lattice)
        return self.code.back_project(maps, self.kernel)[0, 0] / self.energy
