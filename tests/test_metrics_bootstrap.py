"""Bootstrap intervals: equal to SciPy's and to plain re-indexing of speakers, and of about nominal coverage."""

import time

import audmetric
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.metrics import bootstrap_classification, bootstrap_regression, ccc, pearson, resampled_by
from emojax.metrics.bootstrap import percentile_interval, resampling_units

TRUE_CCC = 0.55


def draw_corpus(num_speakers: int, per_speaker: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Standardised labels and predictions of CCC 0.55: in both, half of the variance is the speaker's offset."""
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(num_speakers), per_speaker)
    covariance = [[1, TRUE_CCC], [TRUE_CCC, 1]]
    offsets = rng.multivariate_normal([0, 0], covariance, (num_speakers, 3))[speakers]
    items = rng.multivariate_normal([0, 0], covariance, (len(speakers), 3))
    values = (offsets + items) / np.sqrt(2)
    return values[..., 0], values[..., 1], [f"s{speaker}" for speaker in speakers]


def test_intervals_over_utterances_equal_scipy():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(150, 3))
    predictions = 0.5 * labels + 0.5 * rng.normal(size=(150, 3))
    intervals = bootstrap_regression(predictions, labels, None, num_resamples=6000, seed=1)
    references = {
        "ccc": audmetric.concordance_cc,
        "mae": audmetric.mean_absolute_error,
        "rmse": lambda y, x: np.sqrt(np.mean((x - y) ** 2)),
    }
    for name, of_pairs in references.items():
        expected = scipy.stats.bootstrap(
            (labels[:, 1], predictions[:, 1]),
            of_pairs,
            paired=True,
            vectorized=False,
            n_resamples=3000,
            method="percentile",
            rng=np.random.default_rng(2),
        ).confidence_interval
        ours = intervals[name]["valence"]
        # Both ends are quantiles of a few thousand draws: about 0.003 of Monte Carlo error.
        assert (ours["low"], ours["high"]) == pytest.approx(tuple(expected), abs=0.012), name
        assert ours["value"] == pytest.approx(of_pairs(labels[:, 1], predictions[:, 1]))


def test_speaker_sums_equal_resampling_of_whole_speakers():
    predictions, labels, speakers = draw_corpus(6, 11, seed=3)
    labels[np.random.default_rng(0).random(labels.shape) < 0.2] = np.nan
    predictions, labels = predictions + 100, labels + 100
    units = resampling_units(speakers, len(speakers))
    rng = np.random.default_rng(5)
    drawn = [rng.integers(6, size=6) for _ in range(400)]
    items = [np.concatenate([np.flatnonzero(units == unit) for unit in resample]) for resample in drawn]
    expected = np.percentile([ccc(predictions[rows], labels[rows]) for rows in items], [2.5, 97.5], axis=0)
    ours = bootstrap_regression(predictions, labels, speakers, num_resamples=400, seed=5)["ccc"]
    np.testing.assert_allclose([[i[end] for i in ours.values()] for end in ("low", "high")], expected, atol=1e-9)


def test_resamples_with_undefined_correlation_are_ignored():
    """Each speaker has one prediction for all utterances: a resample of one speaker alone is constant."""
    rng = np.random.default_rng(0)
    speakers = np.repeat(["a", "b", "c"], 20)
    predictions = np.repeat(rng.random((3, 3)), 20, axis=0)
    labels = predictions + 0.5 * rng.random((60, 3))
    draws = np.random.default_rng(4)
    values = []
    for _ in range(300):
        rows = np.concatenate([np.arange(20) + 20 * unit for unit in draws.integers(3, size=3)])
        values.append(pearson(predictions[rows], labels[rows]))
    assert 0.05 < np.isnan(values).mean() < 0.2
    expected = np.nanpercentile(values, [2.5, 97.5], axis=0)
    ours = bootstrap_regression(predictions, labels, speakers, num_resamples=300, seed=4)["pearson"]
    np.testing.assert_allclose([[i[end] for i in ours.values()] for end in ("low", "high")], expected, atol=1e-9)


def test_classification_by_speaker_equals_resampling_of_whole_speakers():
    rng = np.random.default_rng(0)
    labels, speakers = rng.integers(-1, 4, 120), [f"s{i}" for i in rng.integers(0, 7, 120)]
    predictions = np.where(rng.random(120) < 0.6, np.maximum(labels, 0), rng.integers(0, 4, 120))
    units = resampling_units(speakers, 120)
    draws = np.random.default_rng(9)
    values = []
    for _ in range(300):
        rows = np.concatenate([np.flatnonzero(units == unit) for unit in draws.integers(7, size=7)])
        rows = rows[labels[rows] >= 0]
        values.append(
            [
                audmetric.unweighted_average_recall(labels[rows], predictions[rows]),
                audmetric.unweighted_average_fscore(labels[rows], predictions[rows]),
                audmetric.accuracy(labels[rows], predictions[rows]),
            ]
        )
    intervals = bootstrap_classification(predictions, labels, 4, speakers, num_resamples=300, seed=9)
    expected = np.percentile(values, [2.5, 97.5], axis=0)
    ours = [[intervals[name][end] for name in ("uar", "macro_f1", "accuracy")] for end in ("low", "high")]
    np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_coverage_is_about_nominal_over_speakers_and_too_small_over_utterances():
    covered = {"speaker": [], "utterance": []}
    for seed in range(60):
        predictions, labels, speakers = draw_corpus(40, 25, seed)
        for unit, names in (("speaker", speakers), ("utterance", None)):
            intervals = bootstrap_regression(predictions, labels, names, num_resamples=200, seed=seed)["ccc"]
            covered[unit] += [interval["low"] <= TRUE_CCC <= interval["high"] for interval in intervals.values()]
    assert 0.88 <= np.mean(covered["speaker"]) <= 0.98
    assert np.mean(covered["utterance"]) < 0.75


def test_coverage_is_nominal_for_independent_utterances():
    covered = []
    for seed in range(80):
        predictions, labels, _ = draw_corpus(300, 1, seed)
        intervals = bootstrap_regression(predictions, labels, None, num_resamples=200, seed=seed)["ccc"]
        covered += [interval["low"] <= TRUE_CCC <= interval["high"] for interval in intervals.values()]
    assert 0.91 <= np.mean(covered) <= 0.98


def test_intervals_depend_on_the_seed():
    predictions, labels, speakers = draw_corpus(10, 5, seed=0)
    first, again, other = (bootstrap_regression(predictions, labels, speakers, 200, seed) for seed in (1, 1, 2))
    assert first == again
    assert first["ccc"] != other["ccc"]


@pytest.mark.parametrize(
    ("speakers", "unit"),
    [
        (None, "utterance"),
        (["a", "b", "a", "b"], "utterance"),
        (["a", "b", "", ""], "utterance"),
        (["a", "b", "c", ""], "speaker"),
    ],
)
def test_speakers_are_resampled_if_at_least_three_are_known(speakers, unit):
    assert resampled_by(speakers) == unit
    units = resampling_units(speakers, 4)
    assert len(set(units.tolist())) == 4


def test_utterances_of_unknown_speakers_are_resampled_individually():
    units = resampling_units(np.array(["b", "", "a", "", "b", "c"]), 6)
    assert units[0] == units[4]
    assert len(set(units.tolist())) == 5
    assert sorted(set(units.tolist())) == list(range(5))


def test_number_of_speakers_must_equal_number_of_items():
    with pytest.raises(ValueError, match="one entry for each of 4 items, got 2"):
        bootstrap_regression(np.zeros((4, 3)), np.zeros((4, 3)), ["a", "b"])


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), num_speakers=st.integers(1, 12))
def test_intervals_are_ordered_and_within_the_range_of_the_measure(seed, num_speakers):
    predictions, labels, speakers = draw_corpus(num_speakers, 6, seed)
    intervals = bootstrap_regression(predictions, labels, speakers, 100, seed)
    for interval in (*intervals["ccc"].values(), *intervals["pearson"].values()):
        assert -1 <= interval["low"] <= interval["high"] <= 1


def test_undefined_measures_do_not_affect_others():
    predictions, labels, speakers = draw_corpus(8, 5, seed=0)
    labels[:, 0] = np.nan
    predictions[:, 2] = 0.1
    intervals = bootstrap_regression(predictions, labels, speakers, 200, 0)
    assert np.isnan(list(intervals["ccc"]["activation"].values())).all()
    assert np.isnan(list(intervals["rmse"]["activation"].values())).all()
    assert np.isfinite(list(intervals["ccc"]["valence"].values())).all()
    assert intervals["ccc"]["dominance"] == pytest.approx({"value": 0, "low": 0, "high": 0}, abs=1e-12)
    assert np.isnan(list(intervals["pearson"]["dominance"].values())).all()


def test_an_empty_split_has_undefined_intervals():
    intervals = bootstrap_regression(np.zeros((0, 3)), np.zeros((0, 3)), [])
    assert np.isnan(intervals["ccc"]["valence"]["low"])
    assert np.isnan(bootstrap_classification(np.zeros(0, int), np.zeros(0, int), 4, [])["uar"]["high"])


def test_any_measure_of_sums_has_an_interval():
    rng = np.random.default_rng(0)
    sample = rng.normal(size=400)
    low, high = percentile_interval(
        np.stack([np.ones(400), sample], axis=1), lambda sums: sums[:, 1] / sums[:, 0], 4000, 0
    )
    half_width = 1.96 * sample.std() / 20
    assert (low, high) == pytest.approx((sample.mean() - half_width, sample.mean() + half_width), abs=0.01)


def test_a_thousand_resamples_of_30k_utterances_take_under_two_seconds():
    predictions, labels, _ = draw_corpus(30_000, 1, seed=0)
    start = time.process_time()
    bootstrap_regression(predictions, labels, None, num_resamples=1000, seed=0)
    assert time.process_time() - start < 2 * 2  # processor seconds: the matrix products run on two cores
