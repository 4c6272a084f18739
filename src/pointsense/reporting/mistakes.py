"""A page on an evaluation: its scores, its curve, and pictures of the worst mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.spatial import cKDTree

from pointsense.datasets.dataset import points_inside
from pointsense.evaluation.cases import Case, CaseResult
from pointsense.evaluation.match import Match
from pointsense.evaluation.report import HEADER, Part
from pointsense.evaluation.threshold import best_threshold
from pointsense.reporting.curves import draw_threshold_curve
from pointsense.reporting.overlay import as_rgb, draw_overlay
from pointsense.reporting.page import Figure, Section, Table, write_report

MOST = 12
"""Pictures of each kind of mistake."""

SEEN = 6.0
"""Radii from a mistake to the border of its picture."""

ReadImage = Callable[[str], npt.NDArray[np.generic]]
"""From a case's name to its image (H, W, C)."""


def write_mistakes(
    path: Path, title: str, parts: Sequence[Part], read: ReadImage, more: Sequence[Section] = ()
) -> None:
    """Write the page to `path`, with more sections at its end.

    Raises
    ------
    DataError
        If it cannot be written, or an image not be read.
    """
    sections = []
    for part in parts:
        of = f" of {part.name}" if part.name else ""
        figures = []
        if part.threshold is not None and any(len(case.truth) for case in part.candidates):
            curve = best_threshold(
                part.candidates, part.report.radius, protocol=part.report.protocol, counting=False
            )
            own = replace(curve, threshold=part.threshold)
            figures.append(Figure(draw_threshold_curve(own), "On these images, by the threshold.", wide=True))
        table = Table(HEADER, part.report.rows(), part.report.caption())
        sections += [
            Section(f"Scores{of}", tables=[table], figures=figures),
            Section(f"False alarms{of}, the surest first", figures=_alarms(part, read)),
            Section(f"Misses{of}, the blindest first", figures=_misses(part, read)),
        ]
    write_report(path, title, [*sections, *more])


def _alarms(part: Part, read: ReadImage) -> list[Figure]:
    """Pictures of the false alarms with the highest scores."""
    found = []
    for case, result in zip(part.candidates, part.report.cases, strict=True):
        scores = _scores_of(case, result.detections)
        found += [(scores[k], case, result, result.detections[k]) for k in result.match.false_alarms]
    found.sort(key=lambda one: -one[0])
    return [
        Figure(
            _picture(read(case.name), case, result, point, part.report.radius),
            f"{case.name}, y {point[0]:.0f}, x {point[1]:.0f}: score {score:.2f}",
        )
        for score, case, result, point in found[:MOST]
    ]


def _misses(part: Part, read: ReadImage) -> list[Figure]:
    """Pictures of the missed cells whose best candidate scores least."""
    found = []
    for case, result in zip(part.candidates, part.report.cases, strict=True):
        taken = result.detections[result.match.pairs[:, 1]]
        best = _best_scores(case, case.truth[result.match.missed], part.report.radius, taken)
        found += [(best[k], case, result, case.truth[number]) for k, number in enumerate(result.match.missed)]
    found.sort(key=lambda one: one[0])
    return [
        Figure(
            _picture(read(case.name), case, result, point, part.report.radius),
            f"{case.name}, y {point[0]:.0f}, x {point[1]:.0f}: "
            + (f"best candidate {score:.2f}" if score > 0 else "no candidate"),
        )
        for score, case, result, point in found[:MOST]
    ]


def _scores_of(case: Case, detections: np.ndarray) -> np.ndarray:
    """Scores of detections that are among the candidates of a case."""
    if not len(detections):
        return np.zeros(0)
    assert case.detections is not None
    return case.score_array()[cKDTree(case.detections).query(detections)[1]]


def _best_scores(case: Case, points: np.ndarray, radius: float, taken: np.ndarray) -> np.ndarray:
    """The highest score of a candidate within reach of each point, but for those `taken`; 0 where there is none."""
    if case.detections is None or not len(case.detections) or not len(points):
        return np.zeros(len(points))
    scores = case.score_array().copy()
    if len(taken):
        scores[cKDTree(case.detections).query(taken)[1]] = 0
    near = cKDTree(case.detections).query_ball_point(points, radius)
    return np.array([max((scores[k] for k in ones), default=0.0) for ones in near])


def _picture(
    image: npt.NDArray[np.generic], case: Case, result: CaseResult, middle: np.ndarray, radius: float
) -> Image.Image:
    """The surroundings of a point, with what was found and missed there."""
    reach = round(SEEN * radius)
    top, left = np.clip(np.round(middle).astype(int) - reach, 0, np.array(image.shape[:2]) - 1)
    crop = as_rgb(image)[top : top + 2 * reach + 1, left : left + 2 * reach + 1]  # as bright as the whole
    points, detections = case.truth - (top, left), result.detections - (top, left)
    here, there = (points_inside(places, crop.shape) for places in (points, detections))
    match = result.match
    pairs = match.pairs[here[match.pairs[:, 0]] & there[match.pairs[:, 1]]]
    number, place = np.cumsum(here) - 1, np.cumsum(there) - 1
    local = Match(
        pairs=np.stack([number[pairs[:, 0]], place[pairs[:, 1]]], axis=1),
        distances=np.zeros(len(pairs)),
        missed=number[match.missed[here[match.missed]]],
        false_alarms=place[match.false_alarms[there[match.false_alarms]]],
    )
    return draw_overlay(Image.fromarray(crop), detections[there], points[here], local, radius=radius)
