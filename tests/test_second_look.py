"""The second look: crops lie around their points, objects are told from look-alikes, and a model keeps and uses it."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from conftest import TINY
from pointsense.datasets import load_dataset
from pointsense.errors import DataError, UsageError
from pointsense.images import read_image
from pointsense.inference import detector as detector_module
from pointsense.inference.detector import Detector
from pointsense.inference.explain import explain
from pointsense.inference.second_look import crop_around, judge
from pointsense.learning import plan
from pointsense.learning.crops import Alarm, Field
from pointsense.learning.fit import refit, train
from pointsense.learning.second_look import learn_to_look
from pointsense.model.config import Config, override
from pointsense.model.presets import preset
from pointsense.model.second_look import SecondLook

SIDE = 32
SETTINGS = {"look": SIDE, "look_steps": 40, "radius": 4.0, "scale": 0.5, "jitter": 0.0}
CONFIG = override(Config(), SETTINGS)
FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")


def field(seed: int, count: int = 12) -> tuple[Field, list[Alarm]]:
    """Discs, which are the points, and rings of the same size, in noise; the rings in working px as alarms."""
    generator = np.random.default_rng(seed)
    image = generator.normal(0.2, 0.02, (200, 200))
    y, x = np.mgrid[:200, :200]
    places = np.stack(np.meshgrid([30, 75, 120, 165], np.linspace(20, 180, 6)), -1).reshape(-1, 2)
    places = generator.permutation(places)[: 2 * count].astype(float)
    for k, place in enumerate(places):
        distance = np.hypot(y - place[0], x - place[1])
        image[(distance < 5) & ((k < count) | (distance > 3))] += 0.5
    discs, rings = places[:count], places[count:]
    alarms = [Alarm(0, *((ring + 0.5) / 2 - 0.5), 0.5) for ring in rings]
    return Field("a", torch.from_numpy(image)[None].half(), discs, np.zeros(count, int)), alarms


def test_a_crop_lies_around_its_point_at_any_size():
    image = torch.zeros(1, 60, 60)
    image[0, 40, 7] = 1
    crop = crop_around(image, np.array([40.2, 6.9]), 33, 33)
    assert crop[0].argmax() == 16 * 33 + 16
    larger = crop_around(image, np.array([40.0, 7.0]), 11, 33)
    assert divmod(int(larger[0].argmax()), 33) == (16, 16)


def test_a_second_look_goes_on_where_it_was(tmp_path, monkeypatch):
    one, alarms = field(0)
    whole = learn_to_look(FABRIC, [one], alarms, CONFIG, seed=0)

    def stop(step, loss, left):
        if step == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr("pointsense.learning.second_look.SECONDS", 0.0)
    path, steps = tmp_path / "look", []
    with pytest.raises(KeyboardInterrupt):
        learn_to_look(FABRIC, [one], alarms, CONFIG, seed=0, checkpoint=path, report=stop)
    resumed = learn_to_look(
        FABRIC, [one], alarms, CONFIG, seed=0, checkpoint=path, report=lambda step, *_: steps.append(step)
    )
    assert steps == list(range(20, 41))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value)


def test_a_second_look_cut_short_says_so(caplog):
    one, alarms = field(0)
    learn_to_look(FABRIC, [one], alarms, override(CONFIG, {"look_steps": 10**6}), seed=0, time_limit=0.5)
    assert re.search(r"the time limit ended the second look after \d+ of 1000000 steps", caplog.text)


def test_a_second_look_has_time_to_learn_however_long_its_alarms_took(cells, tmp_path, monkeypatch):
    now, limits = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def slow(*given):
        now[0] += 10_000

    monkeypatch.setattr(plan, "known_alarms", slow)
    monkeypatch.setattr(plan, "learn_to_look", lambda *given, time_limit, **more: limits.append(time_limit))
    config = override(preset("pointsense"), TINY | {"look": SIDE})
    train(load_dataset(cells), tmp_path, config, radius=6.0, time_limit=10, device="cpu")
    assert limits == [pytest.approx(600 * plan.LOOK_SHARE / 2)]


def test_chances_that_are_no_numbers_end_in_a_sentence():
    look = SecondLook(CONFIG, 1, 1, load=False).eval()
    with pytest.raises(DataError, match="the network's output is not finite"):
        judge(look, torch.full((1, 60, 60), float("nan")), np.array([[30.0, 30.0]]), side=SIDE)


def test_a_crop_may_be_smaller_than_what_its_place_is_shaken_by():
    one, alarms = field(0)
    config = override(CONFIG, {"radius": 400.0, "look_steps": 2})
    assert learn_to_look(FABRIC, [one], alarms, config, seed=0) is not None


def test_objects_are_told_from_look_alikes_elsewhere():
    first, alarms = field(0)
    told = []
    look = learn_to_look(
        FABRIC, [first], alarms, CONFIG, seed=0, report=lambda step, loss, left: told.append((step, left))
    )
    assert [step for step, _ in told] == list(range(1, 41))
    assert told[-1][1] == pytest.approx(0, abs=1e-6)
    other, rings = field(1)
    rings = np.array([[2 * ring.y + 0.5, 2 * ring.x + 0.5] for ring in rings])
    chances = [judge(look, other.image, places, side=SIDE)[:, 0] for places in (other.points, rings)]
    assert chances[0].min() > chances[1].max()
    twice = torch.nn.functional.interpolate(other.image[None].float(), scale_factor=2.0)[0]
    places = 2 * np.concatenate([other.points, rings]) + 0.5
    zoomed = judge(look, twice, places, side=SIDE, zoom=0.5, views=8)[:, 0]
    np.testing.assert_allclose(zoomed, np.concatenate(chances), atol=0.25)
    assert judge(look, other.image, np.zeros((0, 2)), side=SIDE).shape == (0, 1)


def test_without_false_alarms_there_is_nothing_to_learn():
    one, alarms = field(0)
    assert learn_to_look(FABRIC, [one], [], CONFIG, seed=0) is None
    bare = replace(one, points=np.zeros((0, 2)), labels=np.zeros(0, int))
    assert learn_to_look(FABRIC, [bare], alarms, CONFIG, seed=0) is None


def test_a_model_keeps_its_second_look(cells, tmp_path, monkeypatch):
    config = override(preset("pointsense"), TINY | {"look": SIDE, "look_steps": 5})
    dataset = load_dataset(cells)
    told = []
    metrics = train(
        dataset, tmp_path / "a", config, radius=6.0, report=told.append, time_limit=10, device="cpu"
    )
    assert told[-1].steps == 5
    detector = Detector.load(tmp_path / "a", device="cpu", precision="32-true")
    assert detector.look is not None
    assert (
        f"second look at candidates, in crops of {SIDE} px of the image, 5 steps"
        in (tmp_path / "a" / "README.md").read_text()
    )
    assert metrics["parameters"] == sum(
        p.numel() for part in (detector.network, detector.look) for p in part.parameters()
    )
    refit(tmp_path / "a", dataset, tmp_path / "again", device="cpu")
    assert Detector.load(tmp_path / "again", device="cpu").look is not None
    image = read_image(dataset.val[0].path)
    found = detector.predict(image, threshold=0.0)
    alone = replace(detector, look=None).predict(image, threshold=0.0)
    assert len(found) > 2
    assert len(detector.predict(image, threshold=1e200)) == 0
    assert len(detector.predict(image, threshold=-np.inf)) == len(found)
    np.testing.assert_array_equal(found.points, alone.points)
    views = detector.config.views
    chances = judge(detector.look, detector.as_input(image), alone.points, side=SIDE, views=views)[:, 0]
    np.testing.assert_allclose(found.scores, alone.scores * chances, rtol=1e-5)
    assert len(detector.predict(image)) == np.sum(found.scores >= detector.classes[0].threshold)
    detector.classes = (replace(detector.classes[0], threshold=0.01),)
    for chance in (1.0, 0.0):  # the figure of a window has what the second look lets through
        with monkeypatch.context() as patched:
            patched.setattr(
                detector_module,
                "judge",
                lambda look, image, points, p=chance, **_: np.full((len(points), 1), p),
            )
            assert bool(len(explain(detector, image, dataset.val[0].points)["points"])) == bool(chance)
    # What cannot reach the threshold even at a chance of one is not looked at; of the rest nothing is lost.
    counts = []
    monkeypatch.setattr(
        detector_module, "judge", lambda *given, **more: counts.append(len(given[2])) or judge(*given, **more)
    )
    for scores in (found.scores, alone.scores):
        threshold = float(np.sort(scores)[:2].mean())
        np.testing.assert_array_equal(
            detector.predict(image, threshold=threshold).points, found.points[found.scores >= threshold]
        )
        assert counts[-1] == np.sum(alone.scores >= threshold)
    assert counts[-1] == len(found) - 1
    more = replace(detector, config=override(detector.config, {"look_views": 8}))
    chances = judge(detector.look, detector.as_input(image), alone.points, side=SIDE, views=8)[:, 0]
    np.testing.assert_allclose(more.predict(image, threshold=0.0).scores, alone.scores * chances, rtol=1e-5)
    assert (detector.look_views, more.look_views, replace(more, look=None).look_views) == (views, 8, 0)
    detector.save(tmp_path / "b")
    again = Detector.load(tmp_path / "b", device="cpu", precision="32-true").predict(image, threshold=0.0)
    np.testing.assert_array_equal(again.scores, found.scores)


def test_a_loss_that_is_not_finite_ends_in_a_sentence():
    first, alarms = field(0)
    broken = replace(first, image=torch.full_like(first.image, float("nan")))
    with pytest.raises(DataError, match=r"the loss of the second look became nan at step 1; lower"):
        learn_to_look(FABRIC, [broken], alarms, CONFIG, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"look": 40}, "setting look: .*multiple of 16"),
        (
            {"look": 32, "head": "global"},
            "do not go together: look is for the head 'projection', found 'global'",
        ),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UsageError, match=message):
        override(Config(), settings)
