"""Tiles change nothing: the same points whatever the size of their cores."""

from dataclasses import replace

import numpy as np
import pytest

from pointsense.datasets.synthetic import draw_image
from pointsense.evaluation import match
from pointsense.inference.tiles import tiles, without_seam_doubles
from pointsense.model.config import override


@pytest.mark.parametrize(("core", "zoom"), [(64, 1.0), (200, 1.0), (64, 1.5), (200, 2.0)])
def test_points_do_not_depend_on_the_tiles(detector, core, zoom):
    """Seen from above the noise, where the tiny model finds much that is no cell, too."""
    detector = replace(detector, config=override(detector.config, {"view_zoom": zoom}))
    image, _ = draw_image(460, seed=1, slide=0, number=0)
    image = image[:430]
    whole = detector.predict(image, threshold=0.3, tile=1024)
    found = detector.predict(image, threshold=0.3, tile=core)
    same = match(whole.points, found.points, 0.5).true_positives
    assert len(whole) > 50
    assert same >= 0.99 * max(len(whole), len(found))


@pytest.mark.parametrize(("height", "width", "count"), [(130, 95, 6), (80, 80, 1), (81, 80, 2), (200, 9, 4)])
def test_every_pixel_has_one_owner(height, width, count):
    owned, there = np.zeros((height, width), int), 0
    for tile in tiles(height, width, core=40, halo=16, step=16, fill=16):
        top, left, bottom, right = tile.core
        owned[top:bottom, left:right] += 1
        there += 1
        low, high, end = np.array(tile.box[:2]), np.array(tile.box[2:]), np.array([height, width])
        assert all(edge % 16 == 0 for edge in tile.box)
        assert (high - low <= 48 + 2 * 16).all()
        assert (low == np.maximum(np.array([top, left]) - 16, 0)).all()
        assert ((high >= np.minimum(np.array([bottom, right]) + 16, end)) & (high < end + 16)).all()
    assert (owned == 1).all()
    assert there == count


def test_doubles_at_a_seam_go_and_pairs_within_a_tile_stay():
    points = np.array([[10.0, 10.0], [10.4, 10.0], [10.0, 50.0], [10.0, 50.6]])
    assert without_seam_doubles(points, np.array([0, 1, 2, 2])).tolist() == [True, False, True, True]
