"""What the axes of a detector see in one window of an image, with the words to it: the paper's fig. 6."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pointsense.inference.detector import Detector
from pointsense.inference.explain import explain
from pointsense.reporting.code_figure import MOST_AXES, AxisView, draw_code
from pointsense.reporting.page import Figure, Section


def code_section(
    detector: Detector,
    image: npt.NDArray[np.generic],
    truth: npt.NDArray[np.float64],
    name: str,
    *,
    k: int = 0,
    zoom: float = 1.0,
) -> Section:
    """The window of an image (H, W, C) that holds most of its annotated points (N, 2) of class k; see `explain`."""
    at = _densest(truth, reach=_side(detector) / zoom / 2)
    view = explain(detector, image, truth, at, k=k, zoom=zoom)
    figure = draw_code(
        _window(image, view["box"]),
        view["truth"],
        [AxisView(**axis) for axis in view["axes"][:: max(1, len(view["axes"]) // MOST_AXES)]],
        view["candidates"],
        view["candidate_axis"],
        view["points"],
    )
    axes = len(view["axes"])
    return Section(
        "The code of one window",
        f"Each of {axes} observation axes sees the points of a window as a sparse signal: a spike where a point "
        "projects to. The code holds a few measurements x = D a of each signal; the network predicts them (left), and "
        "recovery finds the sparse signals that explain them (right). Where the axes agree, there is a point.",
        figures=[
            Figure(figure, f"A window of {name}: votes of its axes, measurements and signals.", wide=True)
        ],
    )


def _side(detector: Detector) -> float:
    """Image px of a window's side."""
    return detector.config.window * detector.config.stride / detector.config.scale


def _densest(points: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.float64] | None:
    """The point with most others within `reach`; None where there is none."""
    if not len(points):
        return None
    near = cKDTree(points).query_ball_point(points, reach, p=np.inf, return_length=True)
    return points[int(np.argmax(near))]


def _window(image: npt.NDArray[np.generic], box: tuple[int, int, int, int]) -> npt.NDArray[np.generic]:
    """The part (top, left, bottom, right) of an image; black where it reaches beyond."""
    top, left, bottom, right = box
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    before = max(-top, 0), max(-left, 0)
    window = np.zeros((bottom - top, right - left, image.shape[2]), image.dtype)
    window[before[0] :, before[1] :][: inside.shape[0], : inside.shape[1]] = inside
    return window
