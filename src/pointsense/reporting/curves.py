"""Curves of a training and of a choice of threshold, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pointsense import colours
from pointsense.evaluation.threshold import ThresholdChoice

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches that needs neither a display nor pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png_bytes(figure: Figure, dpi: int = 130) -> bytes:
    """Return the figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def draw_history(
    steps: Sequence[float],
    loss: Sequence[float],
    selection_steps: Sequence[float] = (),
    selection_f1: Sequence[float] = (),
    kept: float | None = None,
) -> bytes:
    """Draw the training loss (log scale) and, where given, the F1 on the selection images, by step, and that kept."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8.0, 3.2)
        left, *others = figure.subplots(1, 2 if len(selection_steps) else 1, squeeze=False)[0]
        left.plot(steps, loss, color=colours.MEASURED, linewidth=0.8, alpha=0.35)
        left.plot(steps, _smoothed(loss), color=colours.MEASURED, linewidth=1.8)
        positive = np.asarray(loss, dtype=float)
        if len(positive) and np.all(positive > 0):
            left.set_yscale("log")
        left.set(xlabel="step", title="Training loss")
        for right in others:
            right.plot(selection_steps, selection_f1, "o-", color=colours.HIT, markersize=4)
            if kept is not None:
                right.axvline(kept, color="#888888", linestyle=":", label=f"kept: step {kept:g}")
                right.legend(loc="best", fontsize=9)
            right.set(xlabel="step", title="F1 of the selection part", ylim=(0, 1.02))
        return png_bytes(figure)


def draw_threshold_curve(choice: ThresholdChoice) -> bytes:
    """Draw precision, recall and F1 by threshold, the chosen threshold, and precision against recall."""
    thresholds = [point.threshold for point in choice.curve]
    precision = [point.precision for point in choice.curve]
    recall = [point.recall for point in choice.curve]
    f1 = [point.f1 for point in choice.curve]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(8.0, 3.2)
        left, right = figure.subplots(1, 2)
        left.plot(thresholds, precision, color=colours.MEASURED, linestyle="--", label="precision")
        left.plot(thresholds, recall, color=colours.PREDICTED, linestyle="-.", label="recall")
        left.plot(thresholds, f1, color="black", linewidth=1.8, label="F1")
        left.axvline(
            choice.threshold, color="#888888", linestyle=":", label=f"chosen: {choice.threshold:.3g}"
        )
        left.set(xlabel="threshold of the score", ylim=(0, 1.02), title="By threshold")
        left.legend(loc="best", fontsize=9)
        right.plot(recall, precision, color=colours.MEASURED)
        right.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
        right.set_title(f"Average precision {choice.average_precision:.3f}")
        return png_bytes(figure)


def draw_lines(panels: Sequence[tuple[str, str, Sequence[str], dict[str, list[float]]]]) -> bytes:
    """Draw shares (0 to 1), two panels a row: title, what the columns are, the columns, and a line for each name."""
    rows = -(-len(panels) // 2)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(9.0, 2.9 * rows)
        for panel, (title, column, columns, lines) in zip(
            figure.subplots(rows, 2).flat, panels, strict=False
        ):
            shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(lines)))
            for shade, (name, values) in zip(shades, lines.items(), strict=True):
                panel.plot(range(len(values)), values, "o-", color=shade, markersize=3.5, label=name)
            panel.set_xticks(range(len(columns)), columns)
            panel.set(xlabel=column, ylim=(-0.03, 1.03))
            panel.set_title(title, fontsize=10)
            panel.legend(fontsize=8)
        return png_bytes(figure)


def _smoothed(values: Sequence[float]) -> np.ndarray:
    """Return the running mean over a twentieth of the values, shorter at both ends."""
    exact = np.asarray(values, dtype=float)
    half = len(exact) // 40
    sums = np.concatenate([[0.0], np.cumsum(exact)])
    position = np.arange(len(exact))
    low, high = np.maximum(position - half, 0), np.minimum(position + half + 1, len(exact))
    return (sums[high] - sums[low]) / (high - low)
