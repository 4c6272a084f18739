"""The models that come with the package: there, small, described, and of use without training."""

import os
from pathlib import Path

import numpy as np
import pytest

from pointsense.datasets import load_dataset
from pointsense.evaluation import evaluate
from pointsense.evaluation.predictions import cases_of, found_by_model
from pointsense.inference.bundled import bundled_models, find_model
from pointsense.inference.detector import Detector
from pointsense.learning.run_folder import learned_from, warn_if_learned_from
from test_cli import cli  # noqa: F401  a fixture


def discs(diameter=18.0, side=300, spacing=45):
    """A dark grey image (side, side) uint8 of bright discs, as of nuclei in fluorescence, and their centres."""
    rows, columns = np.mgrid[:side, :side]
    generator = np.random.default_rng(0)
    image, centres = np.full((side, side), 6.0), []
    for y in range(spacing // 2, side - spacing // 2, spacing):
        for x in range(spacing // 2, side - spacing // 2, spacing):
            centre = np.array([y, x]) + generator.uniform(-5, 5, 2)
            distance = np.hypot(rows - centre[0], columns - centre[1])
            image += 70 / (1 + np.exp((distance - diameter / 2).clip(max=50)))
            centres.append(centre)
    return (image + generator.normal(0, 1.5, image.shape)).clip(0, 255).astype(np.uint8), np.array(centres)


def test_they_are_there_small_and_described(cli):  # noqa: F811
    models = {model.name: model for model in bundled_models()}
    assert set(models) == {"nuclei", "blood"}
    assert models["nuclei"].classes == ("nucleus",)
    assert set(models["blood"].classes) == {"RBC", "WBC", "Platelets"}
    assert sum((m.folder / "model.safetensors").stat().st_size for m in models.values()) < 10e6
    for model in models.values():
        card = (model.folder / "README.md").read_text()
        for part in ("licence of the weights", "| class | radius px |", "**Limits.**"):
            assert part in card
        assert "/" not in Detector.load(model.name).config.weights
    code, said, _ = cli("models", "list")
    assert code == 0
    assert "nuclei: nucleus; typical diameter 18 px. Nuclei in fluorescence" in said
    assert "blood: " in said


@pytest.mark.parametrize("turn", ["grey", "colour", "faint", "deep"])
def test_nuclei_are_found_in_any_kind_of_fluorescence_image(turn):
    image, centres = discs()
    image = {
        "grey": image,
        "colour": np.repeat(image[..., None], 3, axis=2),
        "faint": image // 2,
        "deep": image.astype(np.uint16) * 40,
    }[turn]
    found = Detector.load("nuclei", device="cpu").predict(image)
    distance = np.linalg.norm(centres[:, None] - found.points, axis=-1)
    assert (distance.min(axis=1) < 4).mean() > 0.9
    assert len(found) < 1.15 * len(centres)


def test_few_nuclei_in_a_large_field():
    generator = np.random.default_rng(0)
    image = generator.normal(12, 2, (1536, 1536))
    centres = generator.uniform(500, 1000, (5, 2))
    rows, columns = np.mgrid[:1536, :1536]
    for centre, bright in zip(centres, (60, 80, 100, 110, 120), strict=True):
        image += bright * (np.hypot(rows - centre[0], columns - centre[1]) < 8)
    found = Detector.load("nuclei", device="cpu").predict(image.clip(0, 255).astype(np.uint8)).points
    assert found.shape == centres.shape
    assert (np.linalg.norm(centres[:, None] - found, axis=-1).min(axis=1) < 4).all()


def test_nuclei_of_another_size_are_found_by_their_diameter():
    image, centres = discs(diameter=54, side=600, spacing=110)
    detector = Detector.load("nuclei", device="cpu")
    for diameter in (54, "auto"):
        found = detector.predict(image, diameter=diameter)
        distance = np.linalg.norm(centres[:, None] - found.points, axis=-1)
        assert (distance.min(axis=1) < 8).mean() > 0.9
        assert len(found) < 1.2 * len(centres)


@pytest.mark.data
@pytest.mark.parametrize(
    ("model", "folder", "least"),
    [
        ("nuclei", "dsb2018", {"nucleus": 0.85}),
        ("blood", "bccd", {"WBC": 0.9, "RBC": 0.7, "Platelets": 0.7}),
    ],
)
def test_they_find_what_they_were_made_for(model, folder, least):
    if not (given := os.environ.get("POINTSENSE_DATA")):
        pytest.skip("POINTSENSE_DATA is not set")
    dataset, detector = load_dataset(Path(given) / folder), Detector.load(model, device="cpu")
    samples = dataset.val[::4]
    names = {sample.name for sample in samples}
    found = found_by_model(samples, detector)
    for kind in detector.classes:
        of_class = [sample for sample in dataset.only(kind.name).val if sample.name in names]
        assert evaluate(cases_of(of_class, found, kind.name), kind.radius).overall.f1 > least[kind.name]


def test_bundled_models_know_the_images_that_they_learned_from(caplog):
    for name, images in (("nuclei", 372), ("blood", 205)):
        learned = learned_from(find_model(name))
        assert len(learned) == images
        warn_if_learned_from(name, [min(learned), "mine.png"])
        assert (
            f"1 of 2 images have names of images that the model was trained or chosen on ({min(learned)};"
            in (caplog.records[-1].message)
        )
