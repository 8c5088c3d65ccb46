"""Segments of speech: never overlap, contain all speech, keep their bounds; cuts are where it is quietest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.annotation.config import ActivityConfig, AnnotateConfig, SegmentsConfig, parse_annotation
from emojax.annotation.segments import (
    divide,
    find_segments,
    lengthen,
    merge_pauses,
    pad,
    smoothed_levels,
    speech_runs,
    to_seconds,
)
from emojax.errors import ConfigError
from emojax.schema import to_tree

FRAME = 0.032


@st.composite
def probabilities(draw):
    """Runs of frames with one probability each."""
    pieces = draw(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0]), st.integers(1, 80)), max_size=30))
    return np.concatenate([np.zeros(0), *(np.full(count, value) for value, count in pieces)])


@st.composite
def lengths(draw):
    shortest = draw(st.floats(0, 3))
    return SegmentsConfig(
        pause_seconds=draw(st.floats(0, 2)),
        speech_seconds=draw(st.floats(0, 1)),
        padding_seconds=draw(st.floats(0, 1)),
        min_seconds=shortest,
        max_seconds=draw(st.floats(2 * shortest + 0.1, 15)),
    )


@settings(max_examples=50)
@given(probabilities(), lengths(), st.integers(0, 2**32 - 1))
def test_segments_do_not_overlap_contain_all_speech_and_keep_their_bounds(found, config, seed):
    levels = np.random.default_rng(seed).uniform(-80, 0, len(found))
    activity = ActivityConfig()
    segments = find_segments(found, levels, FRAME, activity, config)
    edges = [edge for segment in segments for edge in segment]
    assert edges == sorted(edges)
    assert all(0 <= start < end <= len(found) for start, end in segments)
    covered = np.zeros(len(found), bool)
    for start, end in segments:
        covered[start:end] = True
    for start, end in speech_runs(found, activity.threshold, activity.release):
        if end - start >= round(config.speech_seconds / FRAME):
            assert covered[start:end].all()
    for start, end in segments:
        assert (end - start) * FRAME <= max(config.max_seconds, FRAME) + 1e-6
        if len(found) * FRAME >= config.min_seconds + FRAME:
            assert (end - start) * FRAME >= config.min_seconds - 1e-6


@settings(max_examples=50)
@given(probabilities(), lengths())
def test_segments_are_near_speech(found, config):
    levels = np.zeros(len(found))
    segments = find_segments(found, levels, FRAME, ActivityConfig(), config)
    if (found < 0.5).all():
        assert segments == []
    reach = round(config.padding_seconds / FRAME) + int(np.ceil(config.min_seconds / FRAME))
    speech = np.flatnonzero(found >= 0.35)
    if segments and config.max_seconds / FRAME > len(found):  # no segment is divided
        for start, end in segments:
            inside = speech[(speech >= start) & (speech < end)]
            assert inside.min() - start <= reach
            assert end - 1 - inside.max() <= reach


def test_speech_has_a_frame_above_the_threshold_and_lasts_while_above_the_release():
    assert speech_runs(np.array([0.4, 0.6, 0.4, 0.1, 0.4, 0.4, 0.9]), 0.5, 0.35) == [(0, 3), (4, 7)]
    assert speech_runs(np.array([0.4, 0.45]), 0.5, 0.35) == []
    assert speech_runs(np.zeros(0), 0.5, 0.35) == []


def test_short_pauses_are_merged_and_padding_ends_in_the_middle_of_a_pause():
    assert merge_pauses([(0, 5), (9, 12), (17, 20)], 5) == [(0, 12), (17, 20)]
    assert pad([(3, 6), (9, 12)], 5, 15) == [(0, 7), (7, 15)]
    assert pad([(3, 6), (9, 12)], 1, 15) == [(2, 7), (8, 13)]


def test_short_segments_are_extended_and_merged_where_there_is_no_space():
    assert lengthen([(10, 12)], 6, 30) == [(8, 14)]
    assert lengthen([(0, 2)], 6, 30) == [(0, 6)]
    assert lengthen([(0, 10), (11, 12), (13, 30)], 6, 30) == [(0, 13), (13, 30)]
    assert lengthen([(0, 1), (2, 20)], 6, 30) == [(0, 20)]
    assert lengthen([(1, 2)], 6, 4) == [(0, 4)]


def test_long_segments_are_divided_at_the_quietest_point():
    levels = np.full(100, -10.0)
    levels[38:43] = -50.0
    assert divide([(0, 70)], levels, 5, 60) == [(0, 40), (40, 70)]
    assert divide([(0, 60)], levels, 5, 60) == [(0, 60)]
    parts = divide([(0, 100)], np.zeros(100), 5, 12)
    assert all(5 <= end - start <= 12 for start, end in parts)


def test_levels_are_averaged_over_neighbours_in_any_number():
    assert smoothed_levels(np.zeros(0)).shape == (0,)
    np.testing.assert_allclose(smoothed_levels(np.array([5.0])), [5.0])
    np.testing.assert_allclose(smoothed_levels(np.array([0.0, 0, 5, 0, 0]))[2], 1.0)


def test_the_last_segment_ends_with_the_recording():
    assert to_seconds([(0, 10), (20, 32)], FRAME, 1.0) == [(0.0, 0.32), (0.64, 1.0)]


def test_config_states_what_is_wrong_in_one_line():
    tree = to_tree(AnnotateConfig())
    tree["segments"]["min_seconds"], tree["segments"]["max_seconds"] = 2.0, 3.0
    with pytest.raises(ConfigError, match=r"config.segments.max_seconds must be >= 2 \* min_seconds .* got 3$"):
        parse_annotation(tree)
    with pytest.raises(ConfigError, match=r"release must be <= threshold, got 0.9 and 0.5"):
        ActivityConfig(release=0.9)
