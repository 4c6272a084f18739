"""Stains of slides that were stained unlike, brought to one strength."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from pointsense.datasets import Sample
from pointsense.images import InputContract
from pointsense.images.levels import MOST_CHANGE, strong_stains
from pointsense.learning.material import prepare
from pointsense.learning.plan import Before, Plan
from pointsense.model.classes import PointClass, Reading
from pointsense.model.config import Config, override
from pointsense.model.presets import fitted_to

DENSITY = {"haematoxylin": (0.9, 1.2, 0.5), "eosin": (0.1, 0.7, 0.2)}


def slide(strength: float, seed: int = 0, side: int = 96) -> np.ndarray:
    """Dark nuclei in pink tissue with white gaps, (side, side, 3), stained with a `strength`."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    density = np.zeros((side, side, 3))
    density[:, : 3 * side // 4] += DENSITY["eosin"]
    for top, left in generator.uniform(5, (side - 5, 3 * side / 4 - 5), (30, 2)):
        density[np.hypot(y - top, x - left) < 4] = DENSITY["haematoxylin"]
    return np.rint(255 * np.exp(-strength * density)).astype(np.uint8)


def test_slides_stained_unlike_become_alike():
    pale, dark = slide(0.75), slide(1.3)
    plain = InputContract.from_images([pale, dark])
    alike = InputContract.from_images([pale, dark], stains=True)
    before, after = (np.abs(c.apply(pale) - c.apply(dark)).mean() for c in (plain, alike))
    assert before > 0.08
    assert after < 0.01
    # What is between both in strength hardly changes, and white stays white.
    between = slide(1.025)
    assert np.abs(alike.apply(between) - plain.apply(between)).max() < 0.03
    assert alike.apply(between)[:, :, -10:].min() == 1
    assert not plain.stains
    assert alike.stains == pytest.approx(1.025 * np.array(DENSITY["haematoxylin"]), rel=0.03)


def test_the_strength_of_an_image_is_that_of_all_of_it():
    """Pale tissue above dark, in more rows than are converted at once: the pale part alone is a pale slide."""
    contract = InputContract.from_images([slide(1.0)], stains=True)
    image = np.concatenate(
        [slide(strength, seed=k) for k, strength in enumerate((0.7, 0.7, 0.7, 1.3, 1.3, 1.3))]
    )
    whole, pale = contract.apply(image), contract.apply(image[:288])
    powers = np.array(contract.stains) / (1.3 * np.array(DENSITY["haematoxylin"]))
    plain = np.clip(image.transpose(2, 0, 1) / 255, 1 / 255, 1)
    np.testing.assert_allclose(whole, plain ** powers[:, None, None], atol=0.02)
    assert np.abs(whole[:, :288] - pale).max() > 0.1


def test_a_change_of_strength_has_its_bounds():
    contract = InputContract.from_images([slide(1.0)], stains=True)
    faint = slide(0.3)
    density = -np.log(np.clip(contract.apply(faint), 1 / 255, 1))
    own = -np.log(np.clip(faint.transpose(2, 0, 1) / 255, 1 / 255, 1))
    np.testing.assert_allclose(density, MOST_CHANGE * own, atol=1e-4)


@pytest.mark.parametrize(
    "image",
    [
        255 - slide(1.0),  # as dark as fluorescence
        np.full((40, 40, 3), 255, np.uint8),  # no tissue
        slide(1.0)[:, -20:],
    ],
    ids=["dark", "white", "gap"],
)
def test_what_is_not_stained_stays_as_it_is(image, caplog):
    assert strong_stains(image.reshape(-1, 3) / 255) is None
    contract = InputContract.from_images([slide(1.0)], stains=True)
    np.testing.assert_array_equal(contract.apply(image), image.transpose(2, 0, 1) / np.float32(255))
    assert not InputContract.from_images([image], stains=True).stains
    assert "no training image is RGB tissue on a bright ground" in caplog.text


def test_grey_images_have_no_stains(caplog):
    grey = slide(1.0)[:, :, :1]
    assert not InputContract.from_images([grey], stains=True).stains
    assert "there are no stains to bring to one strength" in caplog.text
    alone, beside = (
        InputContract.from_images(seen, stains=True) for seen in ([slide(1.0)], [slide(1.0), grey])
    )
    assert alone.stains == beside.stains
    np.testing.assert_array_equal(
        alone.apply(grey), np.repeat(grey.transpose(2, 0, 1), 3, 0) / np.float32(255)
    )


def test_images_with_levels_of_their_own_keep_their_stains(caplog):
    assert not InputContract.from_images([slide(1.0)], levels="image", stains=True).stains
    assert "with fixed levels" in caplog.text


def test_the_contract_keeps_stains():
    contract = InputContract.from_images([slide(1.0)], stains=True)
    assert InputContract.model_validate(contract.model_dump(mode="json")) == contract
    older = {key: value for key, value in contract.model_dump(mode="json").items() if key != "stains"}
    assert not InputContract.model_validate(older).stains
    for wrong in ((1.0,), (1.0, 0.0, 1.0), (1.0, 1.0, np.inf)):
        with pytest.raises(ValidationError, match="stains must be 3 positive densities, or none"):
            InputContract.model_validate(contract.model_dump(mode="json") | {"stains": wrong})


@pytest.mark.parametrize("stains", [True, False])
def test_a_training_asks_for_it_by_a_setting(tmp_path, stains):
    samples = []
    for number, strength in enumerate((0.8, 1.2)):
        Image.fromarray(slide(strength)).save(tmp_path / f"{number}.png")
        points = np.array([[10.0, 10.0], [20.0, 20.0]])
        samples.append(Sample(f"{number}", tmp_path / f"{number}.png", points, ("",) * 2, "a", "train"))
    config = fitted_to(override(Config(), {"stains": stains}), 5)
    contract, fields, _ = prepare(samples, [], (PointClass("", 5),), config)
    assert bool(contract.stains) == stains
    medians = [float(field.image[0].float().quantile(0.05)) for field in fields]
    assert (abs(medians[0] - medians[1]) < 0.02) == stains


def test_choices_of_before_stains_and_matched_filters_have_the_digest_they_had():
    contract = InputContract.from_images([slide(1.0)])
    plan = Plan(None, Config(), (PointClass("a", 5),), [], [], 0, Before("run", contract, {}))
    kinds = [{"name": "a", "radius": 5, "reading": {"blur": 0.0, "rounding": 0.5}, "threshold": 0.5}]
    older = json.dumps(
        {key: value for key, value in contract.model_dump(mode="json").items() if key != "stains"},
        separators=(",", ":"),
    )
    assert plan.request["choices"] == hashlib.sha256((json.dumps(kinds) + older).encode()).hexdigest()[:16]
    matched = replace(plan, classes=(PointClass("a", 5, Reading(matched=True)),))
    stained = replace(plan, before=Before("run", InputContract.from_images([slide(1.0)], stains=True), {}))
    assert len({one.request["choices"] for one in (plan, matched, stained)}) == 3
