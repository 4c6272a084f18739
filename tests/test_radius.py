"""Where the match radius comes from, and when to ask for it."""

from pathlib import Path

import numpy as np
import pytest

from pointsense.datasets import match_radius
from pointsense.datasets.dataset import Dataset, Sample
from pointsense.datasets.radius import known_radius
from pointsense.errors import DataError, UsageError

GRID = np.stack(np.meshgrid(np.arange(7), np.arange(7), indexing="ij"), axis=-1).reshape(-1, 2) * 10.0


def dataset(classes=("",), radius_px=None, points=GRID, split="train"):
    names = tuple(classes[i % len(classes)] for i in range(len(points)))
    sample = Sample("a.png", Path("set/images/a.png"), points, names, group="a.png", split=split)
    return Dataset(Path("set"), (sample,), radius_px or {})


def test_given_comes_first():
    assert match_radius(dataset(("A",), {"A": 6.0}), "A", 4, of_model=9.0) == (4.0, "as given")


@pytest.mark.parametrize("given", [0, -1, np.nan, np.inf])
def test_given_must_be_positive(given):
    with pytest.raises(UsageError, match=r"--radius is .*, expected a positive number of pixels"):
        match_radius(dataset(), "", given)


def test_of_the_data_set():
    two = dataset(("A", "B"), {"A": 6.0, "B": 8.0})
    assert match_radius(two, "B", of_model=9.0) == (8.0, "from dataset.json")
    assert match_radius(two.only("A"), "A") == (6.0, "from dataset.json")
    assert match_radius(dataset(("A", "B"), {"A": 6.0, "B": 6.0})) == (6.0, "from dataset.json")
    assert match_radius(dataset(("",), {"": 7.0})) == (7.0, "from dataset.json")
    assert match_radius(dataset(("A",), {"": 7.0}), "A") == (7.0, "from dataset.json")


def test_radius_of_a_class_that_does_not_occur_is_ignored():
    assert known_radius(dataset(("A",), {"A": 6.0, "C": 8.0})) == 6.0


def test_different_radii_ask_for_a_class():
    two = dataset(("A", "B"), {"A": 6.0, "B": 8.5})
    with pytest.raises(
        UsageError, match=r"\(px: A 6, B 8\.5\); choose one class with --class, or .* --radius"
    ):
        match_radius(two, of_model=9.0)
    assert match_radius(two, "", 7.0)[0] == 7.0


def test_of_the_model_before_an_estimate():
    assert match_radius(dataset(), of_model=9.0) == (9.0, "the model's own")


def test_estimate():
    assert match_radius(dataset()) == (4.0, "estimated from the spacing of the points")
    # A and B as on a chessboard: those of one class are farther apart.
    assert match_radius(dataset(("A", "B")), "A")[0] == round(0.4 * 10 * np.sqrt(2), 1)


@pytest.mark.parametrize(
    "unclear", [dataset(points=GRID[:5]), dataset(points=40 * GRID), dataset(split="val")]
)
def test_asks_where_spacing_cannot_tell(unclear):
    with pytest.raises(UsageError, match=r"match radius is not known.*give --radius PX.*dataset\.json"):
        match_radius(unclear)


def test_a_set_without_a_point_has_no_radius():
    empty = dataset(points=GRID[:0])
    with pytest.raises(
        DataError, match=r"no point: annotate its images, one line of image,y,x in points\.csv"
    ):
        match_radius(empty)
    assert match_radius(empty, of_model=9.0) == (9.0, "the model's own")
