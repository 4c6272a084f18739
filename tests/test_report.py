"""Reports: counts, means, empty images, the bootstrap and what is printed."""

import json
import math

import numpy as np
import pytest
from rich.console import Console

from pointsense.errors import DataError, UsageError
from pointsense.evaluation import Case, evaluate, paired_bootstrap
from pointsense.evaluation.report import HEADER

EMPTY = np.empty((0, 2))


def row_of(count: int, start: int = 0) -> np.ndarray:
    """Return `count` points 100 px apart."""
    return np.array([[0.0, 100.0 * (start + i)] for i in range(count)]).reshape(-1, 2)


def case(name: str, hits: int, alarms: int, misses: int, group: str | None = None) -> Case:
    detections = np.concatenate([row_of(hits) + np.array([0.0, 1.0]), row_of(alarms, start=1000)])
    return Case(name, group, row_of(hits + misses), detections, np.linspace(1, 0.5, len(detections)))


def test_pooled_scores():
    report = evaluate([case("a", 3, 1, 0), case("b", 1, 1, 2)], 5)
    scores = report.overall
    assert (scores.true_positives, scores.false_positives, scores.false_negatives) == (4, 2, 2)
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx((4 / 6, 4 / 6, 4 / 6))
    assert (scores.error_mean, scores.error_median) == (1, 1)
    assert scores.count_mae == pytest.approx((1 + 1) / 2)
    assert report.macro_cases["f1"] == pytest.approx((6 / 7 + 2 / 5) / 2)


def test_error_mean_and_median_differ():
    detections = row_of(3) + np.array([[0, 1], [0, 1], [0, 4]])
    scores = evaluate([Case("a", None, row_of(3), detections)], 5).overall
    assert (scores.error_mean, scores.error_median) == (2, 1)


def test_groups_are_pooled_inside_and_averaged_across():
    cases = [case("a", 9, 0, 0, "large"), case("b", 0, 0, 1, "large"), case("c", 1, 1, 0, "small")]
    report = evaluate(cases, 5)
    assert report.groups["large"].f1 == pytest.approx(18 / 19)
    assert report.groups["small"].f1 == pytest.approx(2 / 3)
    assert report.macro_groups["f1"] == pytest.approx((18 / 19 + 2 / 3) / 2)
    assert report.macro_cases["f1"] == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert report.overall.f1 == pytest.approx(20 / 22)


def test_empty_image_rightly_left_empty():
    scores = evaluate([Case("a", None, EMPTY, EMPTY)], 5).overall
    assert scores.f1 == 1
    assert math.isnan(scores.precision)
    assert math.isnan(scores.recall)
    assert math.isnan(scores.error_mean)
    assert scores.count_mae == 0


def test_detections_on_an_empty_image_score_zero():
    scores = evaluate([Case("a", None, EMPTY, row_of(2))], 5).overall
    assert (scores.f1, scores.precision, scores.false_positives) == (0, 0, 2)


def test_undefined_values_are_left_out_of_the_mean():
    report = evaluate([case("a", 1, 1, 0), Case("b", None, EMPTY, EMPTY)], 5)
    assert report.macro_cases["precision"] == pytest.approx(0.5)
    assert report.macro_cases["recall"] == 1


def test_missing_prediction_is_all_misses():
    report = evaluate([case("a", 2, 0, 0), Case("b", None, row_of(3), None)], 5, threshold=0.1)
    assert report.overall.false_negatives == 3
    assert report.overall.images == 2
    assert report.overall.count_mae == 1.5


def test_threshold_drops_what_scores_less():
    detections = row_of(3)
    report = evaluate([Case("a", None, row_of(1), detections, np.array([0.9, 0.5, 0.4]))], 5, threshold=0.5)
    assert report.overall.false_positives == 1
    assert report.cases[0].detections.tolist() == detections[:2].tolist()


def test_protocol_is_passed_on_and_named():
    cases = [Case("a", None, row_of(1), np.array([[0.0, 0.0], [0.0, 1.0]]))]
    assert evaluate(cases, 5).overall.false_positives == 1
    tolerant = evaluate(cases, 5, protocol="duplicate-tolerant")
    assert tolerant.overall.false_positives == 0
    assert "duplicate-tolerant matching within 5 px" in tolerant.caption()
    with pytest.raises(UsageError, match="unknown protocol"):
        evaluate(cases, 5, protocol="nearest")


def test_threshold_without_scores_is_refused():
    with pytest.raises(DataError, match="a: expected one score for each of 2 detections"):
        evaluate([Case("a", None, EMPTY, row_of(2))], 5, threshold=0.5)


def test_no_cases_and_repeated_names_are_refused():
    with pytest.raises(DataError, match="expected images to score, found none"):
        evaluate([], 5)
    with pytest.raises(DataError, match="found a twice"):
        evaluate([case("a", 1, 0, 0), case("a", 1, 0, 0)], 5)


def varied(groups: int, per_group: int = 2) -> list[Case]:
    rng = np.random.default_rng(3)
    return [
        case(f"{g}-{i}", int(rng.integers(1, 9)), int(rng.integers(0, 4)), int(rng.integers(0, 4)), f"g{g}")
        for g in range(groups)
        for i in range(per_group)
    ]


@pytest.mark.parametrize(("groups", "units", "count"), [(4, "images", 8), (5, "groups", 5)])
def test_interval_resamples_groups_where_there_are_enough(groups, units, count):
    report = evaluate(varied(groups), 5)
    interval = report.f1_interval
    assert (interval.units, interval.unit_count) == (units, count)
    assert interval.low < report.overall.f1 < interval.high
    assert f"bootstrap over {count} {units}" in report.caption()


def test_an_image_without_a_group_is_resampled_as_one():
    grouped = evaluate(varied(6, 8), 5)
    report = evaluate([*varied(6, 8), case("stray", 1, 1, 1)], 5)
    assert (report.f1_interval.units, report.f1_interval.unit_count) == ("groups", 7)
    assert len(report.groups) == 6
    widths = [one.f1_interval.high - one.f1_interval.low for one in (grouped, report)]
    assert widths[1] == pytest.approx(widths[0], rel=0.2)


def test_images_without_groups_are_resampled_one_by_one():
    report = evaluate([case(f"i{i}", 3, 1, i % 2) for i in range(8)], 5)
    assert (report.f1_interval.units, report.f1_interval.unit_count) == ("images", 8)


def test_an_images_own_name_is_no_group():
    report = evaluate([case(f"i{i}", 3, 1, i % 2, f"i{i}") for i in range(8)], 5)
    assert report.groups == {}
    assert report.f1_interval.units == "images"


def test_a_group_may_have_the_name_of_one_of_its_images():
    report = evaluate([case(f"f{i}_{j}", 3, 1, j, f"f{i}_0") for i in range(5) for j in range(2)], 5)
    assert {name: scores.images for name, scores in report.groups.items()} == {f"f{i}_0": 2 for i in range(5)}
    assert (report.f1_interval.units, report.f1_interval.unit_count) == ("groups", 5)


def test_interval_is_wider_when_whole_groups_fail():
    good = [case(f"good{i}{j}", 5, 0, 0, f"g{i}") for i in range(4) for j in range(5)]
    bad = [case(f"bad{j}", 0, 0, 5, "g4") for j in range(5)]
    by_group = evaluate([*good, *bad], 5).f1_interval
    alone = [Case(c.name, None, c.truth, c.detections) for c in [*good, *bad]]
    by_image = evaluate(alone, 5).f1_interval
    assert by_group.high - by_group.low > 1.5 * (by_image.high - by_image.low)


def test_interval_is_reproducible_and_absent_for_one_image():
    assert evaluate(varied(5), 5, seed=1).f1_interval == evaluate(varied(5), 5, seed=1).f1_interval
    assert evaluate(varied(5), 5, seed=1).f1_interval != evaluate(varied(5), 5, seed=2).f1_interval
    assert evaluate([case("a", 1, 0, 0)], 5).f1_interval is None


def test_dict_is_strict_json_with_null_for_undefined():
    report = evaluate([case("a", 1, 1, 1, "g"), Case("b", "h", EMPTY, EMPTY)], 5, threshold=0.2)
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["protocol"] == "one-to-one"
    assert (told["radius_px"], told["threshold"]) == (5, 0.2)
    assert told["overall"]["true_positives"] == 1
    assert told["groups"]["h"]["precision"] is None
    assert set(told["images"]) == {"a", "b"}


def test_table_is_readable_at_eighty_columns():
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(evaluate(varied(3), 5).as_table())
    console.file.close()
    text = console.export_text()
    assert "…" not in text
    for word in ("precision", "recall", "F1", "all (pooled)", "g0", "mean of groups", "mean of images"):
        assert word in text


def test_rows_fit_the_header():
    assert {len(row) for row in evaluate(varied(2), 5).rows()} == {len(HEADER)}


def test_paired_bootstrap_sees_a_small_but_constant_gain():
    first = [case(f"i{i}", 5 + i % 7, 1 + i % 3, 1, f"g{i % 6}") for i in range(18)]
    second = [case(f"i{i}", 5 + i % 7, i % 3, 1, f"g{i % 6}") for i in range(18)]
    weak, strong = evaluate(first, 5), evaluate(second[::-1], 5)
    gain = paired_bootstrap(weak, strong)
    assert gain.difference == pytest.approx(strong.overall.f1 - weak.overall.f1)
    assert 0 < gain.interval.low < gain.difference < gain.interval.high
    assert gain.interval.units == "groups"
    assert gain.share_better == 1
    same = paired_bootstrap(weak, weak)
    assert (same.difference, same.interval.low, same.interval.high, same.share_better) == (0, 0, 0, 0)


def test_paired_bootstrap_needs_the_same_images():
    with pytest.raises(DataError, match="same two or more images"):
        paired_bootstrap(evaluate(varied(2), 5), evaluate(varied(3), 5))
