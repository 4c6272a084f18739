"""Choice of the threshold, and the tuned blob detector that builds on it."""

from dataclasses import replace

import numpy as np
import pytest

from pointsense.errors import DataError
from pointsense.evaluation import Case, evaluate
from pointsense.evaluation.log_baseline import LogDetector, fit_log
from pointsense.evaluation.threshold import ALL, BELOW, SOME, best_threshold

EMPTY = np.empty((0, 2))


def case(right: list[float], wrong: list[float], missed: int = 0) -> Case:
    """Return an image with detections of these scores on cells and off them."""
    truth = np.array([[0.0, 100.0 * i] for i in range(len(right) + missed)]).reshape(-1, 2)
    alarms = np.array([[5000.0, 100.0 * i] for i in range(len(wrong))]).reshape(-1, 2)
    return Case("a", None, truth, np.concatenate([truth[: len(right)], alarms]), np.array(right + wrong))


def test_middle_of_the_gap_between_right_and_wrong():
    choice = best_threshold([case([0.9, 0.95, 1.0], [0.1, 0.2, 0.3])], 5)
    assert choice.threshold == pytest.approx(0.6)
    assert choice.f1 == 1
    assert choice.average_precision == 1


def test_where_nothing_scores_lower_the_plateau_reaches_down_to_zero():
    assert best_threshold([case([0.9, 0.95, 1.0], [])], 5).threshold == pytest.approx(0.45)


def test_wide_plateau_is_preferred_to_a_narrow_peak():
    rng = np.random.default_rng(0)
    right, wrong = rng.uniform(0.8, 1.0, 1000).tolist(), rng.uniform(0.0, 0.2, 1000).tolist()
    # Two more right ones inside the wrong ones' range lift the F1 a little below .2, but by less than .002.
    choice = best_threshold([case([*right, 0.19, 0.195], wrong)], 5)
    assert 0.4 < choice.threshold < 0.6
    assert choice.f1 > 0.998


def doubtful(number: int, missed: int = 12, alarms: int = 0) -> Case:
    """Return an image where doubtful detections, right as often as not, leave the F1 as it is and change the count.

    They score .2 to .3, sure ones, of which some are false alarms, .8 and more, and many false alarms less than .1.
    """
    inner, shift = 0.01 * (number % 2), 0.001 * number  # right and wrong ones take turns over all images
    right = [*np.linspace(0.8, 1.0, 180), *shift + np.linspace(0.2 + inner, 0.3 - inner, 7)]
    wrong = [*np.linspace(0.8, 1.0, alarms), *shift + np.linspace(0.21 - inner, 0.29 + inner, 8)]
    wrong += np.linspace(0.01, 0.1, 100).tolist()
    return replace(case(right, wrong, missed=missed + number % 2), name=str(number))


MIDDLE = np.array([0.1, 0.15])
"""Thresholds to try, whose middle keeps the doubtful detections."""

SURE = np.array([0.05, 0.8])
"""Thresholds to try, whose middle (of the upper one's plateau, down to the next lower score) leaves them out."""


def test_a_count_too_low_lowers_the_threshold_where_f1_stays_the_same():
    images = [doubtful(number) for number in range(6)]
    choice = best_threshold(images, 5, SURE)
    middle, found = (evaluate(images, 5, threshold=t).overall for t in (0.5, choice.threshold))
    assert found.f1 == pytest.approx(middle.f1, abs=0.002)
    assert middle.count_mae > 19
    assert found.count_mae < 8


def test_a_count_too_high_raises_it():
    images = [doubtful(number, missed=0, alarms=20) for number in range(6)]
    choice = best_threshold(images, 5, MIDDLE)
    middle, found = (evaluate(images, 5, threshold=t).overall for t in (0.15, choice.threshold))
    assert found.f1 == pytest.approx(middle.f1, abs=0.002)
    assert middle.count_mae > 27
    assert found.count_mae < 14


def test_the_threshold_stops_at_the_right_count():
    images = [doubtful(number, missed=0) for number in range(6)]  # lack 7 or 8 of the 15 doubtful ones
    choice = best_threshold(images, 5, SURE)
    assert 0.22 < choice.threshold < 0.28
    found = [int(np.sum(image.score_array() >= choice.threshold)) for image in images]
    assert abs(sum(found) - sum(len(image.truth) for image in images)) <= 6


def test_the_threshold_goes_no_further_than_f1_stays_the_same():
    # Next to the sure ones come false alarms alone: the doubtful ones behind them would mend both.
    images = []
    for number in range(6):
        image = doubtful(number)
        alarms = [[9000.0, 100.0 * k] for k in range(9)]
        places = np.concatenate([image.above(None), alarms])
        images.append(
            replace(image, detections=places, scores=np.append(image.score_array(), np.linspace(0.5, 0.6, 9)))
        )
    choice = best_threshold(images, 5, np.array([0.05, 0.7]))
    assert choice.threshold > 0.5
    assert choice.f1 == pytest.approx(evaluate(images, 5, threshold=0.7).overall.f1, abs=0.002)


def test_a_count_that_is_wrong_by_chance_moves_no_threshold():
    assert best_threshold([doubtful(0)], 5, SURE).threshold > 0.3  # of a single image it cannot be told
    # All lack 12 points, some have alarms in their place: by how much the count is off is not sure.
    alike = [doubtful(number, alarms=6) for number in range(6)]
    unlike = [doubtful(number, alarms=alarms) for number, alarms in enumerate((0, 0, 0, 12, 12, 12))]
    assert best_threshold(alike, 5, SURE).threshold < 0.3
    assert best_threshold(unlike, 5, SURE).threshold < 0.3
    unlike = [doubtful(number, alarms=alarms) for number, alarms in enumerate((0, 0, 0, 0, 0, 42))]
    assert best_threshold(unlike, 5, SURE).threshold > 0.3


def test_on_few_points_the_count_moves_no_threshold():
    # Below .2 four more are right and four wrong: F1 is .7 in place of .625, and as many points as there should be.
    right, wrong = [*np.linspace(0.8, 1.0, 10), 0.1, 0.12, 0.14, 0.16], [0.11, 0.13, 0.15, 0.17]
    images = [case(right, wrong, missed=8)] * 3
    choice = best_threshold(images, 5, tolerance=0.15)
    assert choice.threshold > 0.2
    assert choice.f1 == pytest.approx(0.625)


def test_where_hardly_anything_is_wrong_a_few_errors_are_not_chance():
    # The lowest threshold has eight alarms more: alike where much is wrong in any case, not where all 50 are found.
    right, wrong = np.linspace(0.9, 1.0, 50).tolist(), np.linspace(0.1, 0.8, 8).tolist()
    assert best_threshold([case(right, wrong)], 5, tolerance=0.08).threshold > 0.7
    assert best_threshold([case(right, wrong, missed=30)], 5, tolerance=0.08).threshold < 0.6


def test_f1_is_the_one_evaluate_gives():
    rng = np.random.default_rng(1)
    cases = [case(rng.normal(1, 0.5, 40).tolist(), rng.normal(0, 0.5, 60).tolist(), missed=7)]
    choice = best_threshold(cases, 5)
    assert choice.f1 == pytest.approx(evaluate(cases, 5, threshold=choice.threshold).overall.f1)
    assert choice.f1 >= max(point.f1 for point in choice.curve) - 0.002
    for point in choice.curve[::10]:
        scores = evaluate(cases, 5, threshold=point.threshold).overall
        assert (point.precision, point.recall) == pytest.approx((scores.precision, scores.recall))


def test_candidates_hold_the_extremes_and_stay_few():
    scores = np.linspace(0.01, 0.99, 500).tolist()
    curve = best_threshold([case(scores, [])], 5).curve
    assert len(curve) == SOME
    assert (curve[0].threshold, curve[-1].threshold) == (0.01, 0.99)


def test_few_objects_among_many_candidates():
    rng = np.random.default_rng(2)
    right, wrong = rng.uniform(0.6, 1, 40).tolist(), rng.uniform(0, 0.5, 10_000).tolist()
    choice = best_threshold([case(right, wrong)], 5)
    assert choice.f1 == 1
    assert choice.average_precision == 1
    assert choice.curve[0].threshold == min(wrong)
    assert len(choice.curve) <= ALL + BELOW


def test_given_candidates_are_used():
    choice = best_threshold([case([0.9], [0.1])], 5, candidates=np.array([0.5, 0.05]))
    assert [point.threshold for point in choice.curve] == [0.05, 0.5]
    assert choice.threshold == pytest.approx((0.1 + 0.5) / 2)


def test_average_precision_of_a_known_ranking():
    # Ranked right, wrong, right: precision 1 at recall 1/2, 2/3 at recall 1.
    choice = best_threshold([case([0.9, 0.5], [0.7])], 5)
    assert choice.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_average_precision_of_thinned_thresholds_is_nearly_that_of_all():
    generator = np.random.default_rng(4)
    right, wrong = generator.beta(4, 2, 600), generator.beta(2, 4, 1200)
    one = case(right.tolist(), wrong.tolist(), missed=60)
    thinned, every = best_threshold([one], 5), best_threshold([one], 5, candidates=np.append(right, wrong))
    assert len(thinned.curve) < len(every.curve) / 10
    assert thinned.average_precision == pytest.approx(every.average_precision, abs=0.002)


def test_nothing_detected_gives_zero():
    choice = best_threshold([Case("a", None, np.zeros((2, 2)), None)], 5)
    assert (choice.threshold, choice.f1, choice.curve) == (0, 0, ())
    assert best_threshold([Case("a", None, EMPTY, EMPTY, np.empty(0))], 5).f1 == 1


def test_only_false_alarms_are_all_cut_off_as_far_as_scores_go():
    choice = best_threshold([case([], [0.2, 0.4], missed=1)], 5)
    assert choice.f1 == 0


def test_protocol_matters():
    doubled = Case("a", None, np.zeros((1, 2)), np.zeros((2, 2)), np.array([0.9, 0.1]))
    assert best_threshold([doubled], 5, protocol="duplicate-tolerant").curve[0].f1 == 1
    assert best_threshold([doubled], 5).curve[0].f1 == pytest.approx(2 / 3)


def test_bad_input():
    with pytest.raises(DataError, match="found none"):
        best_threshold([], 5)
    with pytest.raises(DataError, match="finite scores"):
        best_threshold([case([0.5, float("nan")], [])], 5)
    with pytest.raises(DataError, match="one score for each"):
        best_threshold([Case("a", None, EMPTY, np.zeros((2, 2)))], 5)


def blobs(polarity: str, channels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    centres = np.array([[12.0, 15.0], [20.0, 44.0], [45.0, 30.0]])
    rows, columns = np.indices((60, 60))
    image = sum(np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 3.0**2)) for y, x in centres)
    grey = np.round(40 + 160 * (image if polarity == "bright" else 1 - image)).astype(np.uint8)
    return (grey if channels is None else np.repeat(grey[..., None], channels, axis=2)), centres


@pytest.mark.parametrize("polarity", ["bright", "dark"])
@pytest.mark.parametrize("channels", [None, 3, 4])
def test_log_finds_blobs_of_either_polarity(polarity, channels):
    image, centres = blobs(polarity, channels)
    if channels == 4:
        image[..., 3] = np.random.default_rng(0).integers(0, 255, image.shape[:2])
    detector = fit_log([image], [centres], 4)
    assert detector.polarity == polarity
    points, scores = detector.detect(image)
    assert points[np.argsort(points[:, 0])].tolist() == centres.tolist()
    assert (scores >= detector.threshold).all()


def test_log_threshold_cuts():
    image, _ = blobs("bright")
    points, scores = LogDetector(3.0, 10.0, "bright").detect(image)
    assert points.shape == (0, 2)
    assert scores.shape == (0,)


def test_fit_log_needs_a_truth_for_each_image():
    with pytest.raises(DataError, match="found 1 and 0"):
        fit_log([np.zeros((8, 8))], [], 4)
