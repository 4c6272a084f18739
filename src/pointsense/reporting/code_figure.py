"""The code of one patch: signal, measurement and recovery per axis, and the votes of the axes (fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from pointsense import colours
from pointsense.reporting.curves import STYLE, new_figure, png_bytes
from pointsense.reporting.overlay import as_rgb

MOST_AXES = 4


@dataclass(frozen=True)
class AxisView:
    """One observation axis of one patch.

    Attributes
    ----------
    name : str
        What to call it, such as "axis 3 (40 deg)".
    signal_true, signal_recovered : (n,) float arrays
        The sparse signal a of the annotation and the one recovered from the predicted measurement.
    measurement_true, measurement_predicted : (m,) float arrays
        x = D a, and the network's prediction of it.
    """

    name: str
    signal_true: np.ndarray
    signal_recovered: np.ndarray
    measurement_true: np.ndarray
    measurement_predicted: np.ndarray


def draw_code(
    patch: np.ndarray,
    truth: np.ndarray,
    axes: Sequence[AxisView],
    candidates: np.ndarray,
    candidate_axis: np.ndarray,
    points: np.ndarray,
) -> bytes:
    """Draw a patch with the votes of its axes, and the codes of a few axes beside it, as PNG bytes.

    Parameters
    ----------
    patch : (h, w) or (h, w, channels) array
        The image of the patch.
    truth : (N, 2) float array
        Annotated points (y, x) in the patch, px.
    axes : sequence of AxisView
        The axes to show; the first four are drawn.
    candidates : (V, 2) float array
        Positions (y, x) that the axes vote for, px.
    candidate_axis : (V,) int array
        The axis that each candidate comes from.
    points : (K, 2) float array
        Final points (y, x), px.

    Raises
    ------
    ValueError
        If there is not one axis for each candidate.
    """
    candidates, truth = _points(candidates), _points(truth)
    points, candidate_axis = _points(points), np.asarray(candidate_axis)
    if len(candidate_axis) != len(candidates):
        raise ValueError(
            f"expected an axis for each of {len(candidates)} candidates, got {len(candidate_axis)}"
        )
    shown = list(axes)[:MOST_AXES]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(12.5, max(4.6, 1.45 * len(shown) + 0.4))
        panels: Any = figure.subfigures(1, 2, width_ratios=(1.0, 1.5))
        left, right = panels
        _draw_patch(left.subplots(), patch, truth, candidates, candidate_axis, points)
        if shown:
            grid = right.subplots(len(shown), 2, squeeze=False, sharex="col")
            for row, view in zip(grid, shown, strict=True):
                _draw_measurement(row[0], view)
                _draw_signal(row[1], view)
            grid[0, 0].set_title("measurement x = D a")
            grid[0, 1].set_title("signal a")
            grid[0, 0].legend(loc="upper right", fontsize=8, ncols=2)
            grid[0, 1].legend(loc="upper right", fontsize=8, ncols=2)
            grid[-1, 0].set_xlabel("measurement number")
            grid[-1, 1].set_xlabel("bin along the axis")
        return png_bytes(figure)


def _draw_patch(
    axes: Axes,
    patch: np.ndarray,
    truth: np.ndarray,
    candidates: np.ndarray,
    candidate_axis: np.ndarray,
    points: np.ndarray,
) -> None:
    axes.imshow(as_rgb(patch), interpolation="bicubic")
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    height, width = np.asarray(patch).shape[:2]
    voters = len(np.unique(candidate_axis))
    _mark(
        axes, candidates, f"{len(candidates)} votes of {voters} axes", marker="+", s=42, c=colours.CANDIDATE
    )
    ring = {"facecolors": "none", "edgecolors": colours.TRUTH, "linewidths": 1.8}
    _mark(axes, truth, f"{len(truth)} annotated", marker="o", s=420, **ring)
    _mark(axes, points, f"{len(points)} detected", marker="x", s=50, c=colours.PREDICTED, linewidths=2.0)
    # Votes may fall outside; the patch stays the frame.
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), title="votes of the axes")
    legend = axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3, fontsize=9, frameon=True, markerscale=0.6,
        facecolor="#1b1b1b", edgecolor="none", labelcolor="white", handletextpad=0.3, columnspacing=1.2,
    )  # fmt: skip
    legend.get_frame().set_alpha(1.0)


def _mark(axes: Axes, points: np.ndarray, label: str, **style: Any) -> None:
    axes.scatter(points[:, 1], points[:, 0], label=label, **style)


def _draw_measurement(axes: Axes, view: AxisView) -> None:
    true, predicted = np.asarray(view.measurement_true), np.asarray(view.measurement_predicted)
    axes.plot(true, color=colours.MEASURED, linewidth=1.6, label="true")
    axes.plot(predicted, color=colours.PREDICTED, linewidth=1.2, linestyle="--", label="predicted")
    axes.set_ylabel(view.name)
    _head_room(axes, true, predicted)


def _draw_signal(axes: Axes, view: AxisView) -> None:
    """Draw both sparse signals as stems, the recovered one downwards so that neither hides the other."""
    for signal, colour, sign, label in (
        (np.asarray(view.signal_true), colours.MEASURED, 1, "true, upwards"),
        (np.asarray(view.signal_recovered), colours.PREDICTED, -1, "recovered, downwards"),
    ):
        held = np.flatnonzero(signal)
        axes.vlines(held, 0, sign * signal[held], color=colour, linewidth=1.6, label=label)
        axes.plot(held, sign * signal[held], "o", color=colour, markersize=3)
    axes.axhline(0, color="#999999", linewidth=0.8)
    bins = len(view.signal_true)
    axes.set_xlim(-0.02 * bins, 1.02 * bins)
    _head_room(axes, np.asarray(view.signal_true), -np.asarray(view.signal_recovered))
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")


def _head_room(axes: Axes, *signals: np.ndarray) -> None:
    """Leave room above the curves for the legend."""
    low = min(float(np.min(signal, initial=0.0)) for signal in signals)
    high = max(float(np.max(signal, initial=0.0)) for signal in signals)
    extent = (high - low) or 1.0
    axes.set_ylim(low - 0.08 * extent, high + 0.35 * extent)


def _points(points: np.ndarray) -> np.ndarray:
    return np.asarray(points, dtype=np.float64).reshape(-1, 2)
