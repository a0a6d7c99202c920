"""Intervals and tests, against formulas and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kinema.evaluation.statistics import (
    Measured,
    interval,
    macro,
    paired_difference,
    t_quantile,
)

scipy_stats = pytest.importorskip("scipy.stats")


def numbered(count: int) -> list[str]:
    return [str(i) for i in range(count)]


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 10, 30, 1000])
def test_t_quantiles_are_right(degrees):
    expected = scipy_stats.t.ppf(0.975, degrees)
    assert t_quantile(0.975, degrees) == pytest.approx(expected, rel=0.01)


def test_an_unclustered_mean_has_the_textbook_error():
    scores = np.random.default_rng(0).random(50)
    found = interval(Measured.mean(scores).influence, scores.mean(), numbered(50))
    assert found.standard_error == pytest.approx(scores.std(ddof=1) / math.sqrt(50))
    assert found.low < scores.mean() < found.high


def test_repeating_every_question_of_a_video_does_not_make_a_score_surer():
    scores = np.random.default_rng(0).random(40)
    once = interval(Measured.mean(scores).influence, scores.mean(), numbered(40))
    many = np.repeat(scores, 10)
    clustered = interval(Measured.mean(many).influence, many.mean(), np.repeat(numbered(40), 10))
    assert clustered.standard_error == pytest.approx(once.standard_error)


def test_one_cluster_has_no_interval():
    assert interval(Measured.mean([1, 0]).influence, 0.5, ["v", "v"]) is None


def test_intervals_of_clustered_data_cover_the_truth():
    noise = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        centres = np.repeat(noise.normal(0, 1, 30), 5)
        scores = centres + noise.normal(0, 0.5, 150)
        found = interval(Measured.mean(scores).influence, scores.mean(), np.repeat(numbered(30), 5))
        covered += found.low <= 0 <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_a_ratio_is_pooled_and_its_influence_sums_to_zero():
    measured = Measured.ratio([1, 3], [2, 6], scale=100)
    assert measured.value == 50
    assert measured.influence.sum() == pytest.approx(0)
    assert Measured.ratio([0], [0], empty=100.0).value == 100
    assert math.isnan(Measured.mean([]).value)


def test_a_macro_average_weighs_groups_alike():
    small, large = Measured.mean([1.0]), Measured.mean([0.0, 0.0, 0.0])
    measured = macro([(small, np.array([0])), (large, np.array([1, 2, 3]))], 4)
    assert measured.value == 0.5
    assert measured.per_item.tolist() == [1, 0, 0, 0]


def test_a_paired_test_sees_what_unpaired_intervals_hide():
    noise = np.random.default_rng(2)
    hard = noise.random(200)
    better, worse = Measured.mean(hard + 0.05), Measured.mean(hard - 0.01 * noise.random(200))
    found = paired_difference(better, worse, numbered(200))
    assert found.p_value < 0.001
    assert found.interval.low > 0
    assert found.value == pytest.approx(better.value - worse.value)


def test_equal_runs_do_not_differ():
    scores = Measured.mean(np.random.default_rng(3).integers(0, 2, 60).astype(float))
    found = paired_difference(scores, scores, numbered(60))
    assert (found.value, found.p_value) == (0, 1)


def test_p_values_of_exchangeable_runs_are_spread_evenly():
    noise = np.random.default_rng(4)
    values = []
    for _ in range(60):
        one, other = (Measured.mean(noise.normal(size=40)) for _ in range(2))
        values.append(paired_difference(one, other, numbered(40)).p_value)
    assert 0.3 < np.mean(values) < 0.7
