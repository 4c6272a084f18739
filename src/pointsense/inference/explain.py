"""What the observation axes of a trained detector see: the matter of the paper's fig. 6."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointsense.datasets.dataset import points_inside
from pointsense.inference.decode import measure_of, to_cells, to_pixels
from pointsense.inference.scaling import factors, rescaled, to_image, to_working
from pointsense.model.network import ProjectionNetwork
from pointsense.points import Detections

REGION = 1024
"""Most working px a side that are looked at around a window: images may be large."""

if TYPE_CHECKING:
    from pointsense.inference.detector import Detector


def explain(
    detector: Detector,
    image: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    at: npt.NDArray[Any] | None = None,
    *,
    k: int = 0,
    zoom: float = 1.0,
) -> dict[str, Any]:
    """What the axes see, of class k, in a window of an image: the paper's fig. 6.

    Parameters
    ----------
    detector : Detector
        With a projection head.
    image : array, (H, W) or (H, W, C)
    truth : array, (N, 2)
        Annotated points in px of the image.
    at : array, (2,), optional
        (y, x) in px of the image; the window is the one around it, else that in the middle.
    k : int
        The number of the class.
    zoom : float
        See `Detector.zoom_of`.

    Returns
    -------
    dict
        ``box`` (top, left, bottom, right) of the window in image px; ``axes``, one dict an axis: name,
        signal_true, signal_recovered (n,), measurement_true, measurement_predicted (m,); ``points`` and
        ``truth`` in the window, ``candidates`` (V, 2), where each axis would put each point, and
        ``candidate_axis`` (V,); all in px of the window.
    """
    assert isinstance(detector.network, ProjectionNetwork)
    code, config = detector.network.code, detector.config
    kind, scale = detector.classes[k], factors(np.shape(image), config.scale * zoom)
    levelled = detector.as_input(image)
    prepared = rescaled(levelled, config.scale * zoom)
    sides = np.array(prepared.shape[1:])
    centre = (sides - 1) / 2 if at is None else to_working(np.asarray(at, float), scale)
    origin = np.clip(centre - REGION / 2, 0, np.maximum(sides - REGION, 0)).astype(int)
    origin += -origin % detector.step
    region = prepared[:, origin[0] :, origin[1] :][:, :REGION, :REGION]
    mass = detector.maps(region, core=REGION)[0].mass[k]
    codes = code.measure(mass[None, None])[0]
    measure = measure_of(code, codes, mass, kind.reading)
    places = to_image(to_pixels(measure.positions.cpu().numpy().astype(float), config.stride) + origin, scale)
    seen = Detections.of(places, measure.supported.cpu().numpy(), kind.name)
    seen = detector.looked_at(levelled, seen, -math.inf, zoom)
    certain = torch.from_numpy(seen.scores >= kind.threshold).to(codes.device)
    lattice = (codes.shape[1], codes.shape[2])
    working = to_working(truth, scale).reshape(-1, 2) - origin
    working = working[points_inside(working, region.shape[1:])]
    cells = to_cells(torch.from_numpy(working).to(codes), config.stride)
    cell = (centre - origin) / config.stride
    nearest = np.round((cell + code.margin - (code.window - 1) / 2) / code.hop).astype(int)
    i, j = (int(np.clip(place, 0, n - 1)) for place, n in zip(nearest, lattice, strict=True))
    true = code.signals(cells, torch.ones(len(cells), device=codes.device), lattice)
    recovered = code.signals(measure.positions[certain], measure.masses[certain], lattice)
    place = i * lattice[1] + j
    predicted = code.per_axis(codes[None])[0, place]
    turn = 180 if config.arc == "half" else 360
    angles = [turn * number / config.axes for number in range(config.axes)]
    axes = [
        {
            "name": f"axis {number + 1} ({angles[number]:.0f}°)",
            "signal_true": true[place, number].cpu().numpy(),
            "signal_recovered": recovered[place, number].cpu().numpy(),
            "measurement_true": (code.sensing_matrix @ true[place, number]).cpu().numpy(),
            "measurement_predicted": predicted[number].cpu().numpy(),
        }
        for number in range(config.axes)
    ]
    first = np.array([i, j]) * code.hop - code.margin
    pixel = config.stride / (config.scale * zoom)

    def in_window(positions: Tensor) -> npt.NDArray[np.float64]:
        return (positions.cpu().numpy() - first + 0.5) * pixel - 0.5

    moved = measure.positions[:, None] + measure.axis_offsets.clamp(-3, 3)[..., None] * code.directions
    votes = certain[:, None] & (measure.axis_masses >= measure.masses[:, None] / 2)
    candidates, points = in_window(moved[votes]), in_window(measure.positions[certain])
    side = code.window * pixel
    inside = [points_inside(p, (side, side)) for p in (candidates, points)]
    corner = first + origin / config.stride
    box = [round(v * pixel) for v in (*corner, *(corner + code.window))]
    labels = in_window(cells)
    return {
        "box": tuple(box),
        "axes": axes,
        "points": points[inside[1]],
        "truth": labels[points_inside(labels, (side, side))],
        "candidates": candidates[inside[0]],
        "candidate_axis": votes.nonzero()[:, 1].cpu().numpy()[inside[0]],
    }
