"""Sliding windows and smoothing of tracks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from emojax.annotation.track import in_segments, smooth, smooth_spread, window_starts

VALUES = st.lists(st.floats(1, 7) | st.just(float("nan")), min_size=1, max_size=60).map(np.array)


@given(st.integers(1, 10**6), st.integers(1, 10**5), st.integers(1, 10**5))
def test_windows_are_whole_and_reach_the_end(num_samples, window, hop):
    starts = window_starts(num_samples, window, hop)
    assert starts[0] == 0
    assert (np.diff(starts) == hop).all()
    if num_samples >= window:
        assert starts[-1] + window <= num_samples < starts[-1] + window + hop
    else:
        assert len(starts) == 1


def test_times_in_segments_include_the_start_and_not_the_end():
    times = np.array([0.0, 1.0, 1.5, 2.0, 3.0, 4.0])
    assert in_segments(times, [(1.0, 2.0), (3.0, 3.5)]).tolist() == [False, True, True, False, True, False]
    assert not in_segments(times, []).any()


@given(VALUES, st.floats(0.1, 5))
def test_smoothing_keeps_gaps_constants_and_bounds(values, deviation):
    smoothed = smooth(values, deviation)
    np.testing.assert_array_equal(np.isnan(smoothed), np.isnan(values))
    if np.isfinite(values).any():
        assert np.nanmin(values) - 1e-9 <= np.nanmin(smoothed)
        assert np.nanmax(smoothed) <= np.nanmax(values) + 1e-9
    constant = np.where(np.isnan(values), np.nan, 3.0)
    np.testing.assert_allclose(smooth(constant, deviation), constant)
    np.testing.assert_array_equal(smooth(values, 0.0), values)


def test_smoothing_without_gaps_is_a_gaussian_filter():
    values = np.random.default_rng(0).uniform(1, 7, 200)
    expected = gaussian_filter1d(values, 2.0, radius=6)
    np.testing.assert_allclose(smooth(values, 2.0)[6:-6], expected[6:-6], rtol=1e-12)


@given(st.lists(st.tuples(st.floats(1, 7), st.floats(0, 2)), min_size=1, max_size=30), st.floats(0.1, 3))
def test_the_spread_is_that_of_the_averaged_distribution(pairs, deviation):
    means, spreads = np.array(pairs).T
    found = smooth_spread(means, spreads, deviation)
    places = np.arange(len(means))
    reach = max(int(np.ceil(3 * deviation)), 1)
    for place in places:
        distance = places - place
        weights = np.where(np.abs(distance) <= reach, np.exp(-0.5 * np.square(distance / deviation)), 0)
        mean = np.average(means, weights=weights)
        variance = np.average(np.square(spreads) + np.square(means - mean), weights=weights)
        np.testing.assert_allclose(found[place], np.sqrt(variance), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(smooth_spread(means, spreads, 0.0), spreads)
