"""The page of the worst mistakes: which come first, and what is seen around them."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from pointsense.datasets import load_dataset
from pointsense.evaluation import Case, evaluate
from pointsense.evaluation.report import Part
from pointsense.images import read_image
from pointsense.inference.detector import Detector
from pointsense.inference.explain import explain
from pointsense.model.classes import Reading
from pointsense.reporting import mistakes
from pointsense.reporting.code_section import _densest
from pointsense.reporting.mistakes import MOST, write_mistakes

RADIUS, THRESHOLD = 5.0, 0.5


def part(cases):
    return Part("", evaluate(cases, RADIUS, threshold=THRESHOLD), cases, THRESHOLD)


def page_of(tmp_path, cases, read=lambda _: np.zeros((200, 300, 3), np.uint8)):
    write_mistakes(tmp_path / "page.html", "a title", [part(cases)], read)
    return (tmp_path / "page.html").read_text()


def test_the_surest_alarms_and_the_blindest_misses_come_first(tmp_path):
    a = Case(
        "a.png",
        None,
        np.array([(20.0, 20.0), (100.0, 100.0), (150.0, 250.0)]),
        np.array([(20.0, 21.0), (101.0, 100.0), (60.0, 60.0)]),
        np.array([0.9, 0.4, 0.6]),
    )
    b = Case("b.png", None, np.zeros((0, 2)), np.array([(30.0, 40.0)]), np.array([0.8]))
    captions = re.findall("<figcaption>([^<]+)", page_of(tmp_path, [a, b]))
    assert captions == [
        "On these images, by the threshold.",
        "b.png, y 30, x 40: score 0.80",
        "a.png, y 60, x 60: score 0.60",
        "a.png, y 150, x 250: no candidate",
        "a.png, y 100, x 100: best candidate 0.40",
    ]


def test_there_are_not_too_many(tmp_path):
    places = np.array([(10.0 + 30 * i, 10.0 + 30 * j) for i in range(6) for j in range(9)])
    case = Case("a.png", None, np.zeros((0, 2)), places, np.linspace(0.5, 1, len(places)))
    captions = re.findall("<figcaption>([^<]+)", page_of(tmp_path, [case]))
    assert len(captions) == MOST
    assert captions[0].endswith("score 1.00")


@pytest.mark.parametrize("middle", [(0.0, 0.0), (100.0, 100.0), (199.0, 299.0)])
def test_a_picture_holds_its_surroundings(monkeypatch, middle):
    """What is drawn are the parts of the match whose ends are in the crop, on their pixels."""
    drawn = {}

    def draw(crop, detections, truth, match, *, radius):
        drawn.update(crop=crop, detections=detections, truth=truth, match=match)

    monkeypatch.setattr(mistakes, "draw_overlay", draw)
    rows, columns = np.indices((200, 300))
    image = np.stack([rows, columns % 256, columns // 256], axis=2).astype(np.uint8)
    generator = np.random.default_rng(0)
    truth = np.round(generator.uniform((0, 0), (199, 299), (300, 2)))
    found = np.clip(truth[:200] + generator.integers(-4, 5, (200, 2)), 0, (199, 299))
    found = np.concatenate([found, np.round(generator.uniform((0, 0), (199, 299), (100, 2)))])
    case = Case("a.png", None, truth, found, np.ones(300))
    [result] = evaluate([case], RADIUS).cases
    mistakes._picture(image, case, result, np.array(middle), RADIUS)
    crop, match = np.asarray(drawn["crop"]).astype(int), drawn["match"]
    places = np.stack([crop[..., 0], crop[..., 1] + 256 * crop[..., 2]], axis=2)
    first = places[0, 0]
    assert np.abs(np.array(middle) - first).max() <= 30
    for y, x in drawn["truth"].astype(int):
        assert places[y, x].tolist() == [y + first[0], x + first[1]]
    pairs = drawn["truth"][match.pairs[:, 0]] - drawn["detections"][match.pairs[:, 1]]
    assert np.hypot(*pairs.T).max() <= RADIUS
    whole = {tuple(place) for place in truth[result.match.missed]}
    assert {tuple(place) for place in drawn["truth"][match.missed] + first} <= whole
    alarms = {tuple(place) for place in found[result.match.false_alarms]}
    assert {tuple(place) for place in drawn["detections"][match.false_alarms] + first} <= alarms
    assert len(match.pairs)


@pytest.mark.parametrize("place", [(199.5, 50.0), (80.0, 299.5), (900.0, 20.0), (-40.0, 400.0)])
def test_pictures_of_what_lies_on_the_border_or_beyond(monkeypatch, place):
    drawn = []
    monkeypatch.setattr(mistakes, "draw_overlay", lambda *given, **more: drawn.append(given))
    case = Case("a.png", None, np.array([place]), np.array([place]), np.ones(1))
    [result] = evaluate([case], RADIUS).cases
    mistakes._picture(np.zeros((200, 300, 1), np.uint8), case, result, np.array(place), RADIUS)
    crop, detections, truth, match = drawn[0]
    assert min(crop.size)
    inside = -0.5 <= place[0] <= 199.5 and -0.5 <= place[1] <= 299.5
    assert len(detections) == len(truth) == len(match.pairs) == inside


@pytest.mark.parametrize("at", [(3.0, 4.0), (50.0, 20.0), (60.0, 90.0), (95.0, 95.0)])
def test_the_window_to_explain_is_the_one_around_a_point(cells, run, at):
    sample = load_dataset(cells).val[0]
    view = explain(Detector.load(run, device="cpu"), read_image(sample.path), sample.points, at=np.array(at))
    top, left, bottom, right = view["box"]
    assert top <= at[0] < bottom
    assert left <= at[1] < right
    middle = np.array([(top + bottom) / 2, (left + right) / 2])
    assert np.abs(middle - at).max() <= max(bottom - top, 40)
    inside = np.all((sample.points >= (top, left)) & (sample.points < (bottom, right)), axis=1)
    assert abs(len(view["truth"]) - inside.sum()) <= 2  # but for points at the very border


@pytest.mark.parametrize("reading", [Reading(), Reading(2.0, matched=True)])
@pytest.mark.parametrize(("side", "at"), [(96, 48.0), (75, 70.0)])
def test_the_window_to_explain_shows_what_is_predicted(cells, run, reading, side, at):
    sample = load_dataset(cells).val[0]
    detector, image = Detector.load(run, device="cpu"), read_image(sample.path)[:side, :side]
    [kind] = detector.classes
    detector.classes = (replace(kind, reading=reading, threshold=0.15),)
    predicted = detector.predict(image).points
    view = explain(detector, image, sample.points, at=np.array([at, at]))
    top, left, bottom, right = view["box"]
    inner = np.all((predicted >= (top + 2, left + 2)) & (predicted < (bottom - 2, right - 2)), axis=1)
    shown = view["points"] + (top, left)
    assert inner.any()
    assert cdist(predicted[inner], shown).min(1).max() < 0.01
    shown = shown[np.all((shown >= -0.5) & (shown <= side - 0.5), axis=1)]
    assert cdist(shown, predicted).min(1).max() < 0.01


def test_the_densest_place():
    points = np.array([(0.0, 0.0), (50.0, 50.0), (52.0, 50.0), (53.0, 53.0), (90.0, 90.0)])
    assert _densest(points, 5.0).tolist() == [50.0, 50.0]
    assert _densest(np.zeros((0, 2)), 5.0) is None
