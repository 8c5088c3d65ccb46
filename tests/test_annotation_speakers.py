"""Speakers from RTTM: overlap decides; files of other recordings and damaged lines are errors of one line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojax.annotation.speakers import check_recordings, make_turns, read_rttm, recording_id
from emojax.errors import EmojaxError

TIMES = st.integers(0, 60).map(float)
SPANS = st.lists(st.tuples(TIMES, TIMES, st.sampled_from("ABC")).map(lambda t: (min(t[:2]), max(t[:2]), t[2])))


@given(SPANS, TIMES, st.integers(1, 20))
def test_the_speaker_with_the_longest_overlap_is_chosen(spans, start, length):
    end = start + length
    seconds = {
        name: sum(any(a <= t < b and who == name for a, b, who in spans) for t in np.arange(start, end))
        for name in "ABC"
    }
    found = make_turns(spans).speaker(start, end)
    if found is None:
        assert not any(seconds.values())
    else:
        assert seconds[found] == max(seconds.values()) > 0


def test_lines_are_read_by_recording_and_other_types_ignored(tmp_path):
    path = tmp_path / "a.rttm"
    path.write_text(
        ";; comment\nSPKR-INFO talk 1 <NA> <NA> <NA> unknown A <NA> <NA>\n\n"
        "SPEAKER talk 1 0.5 1.5 <NA> <NA> A <NA> <NA>\nSPEAKER other 1 0 1 <NA> <NA> B <NA>\n"
    )
    turns = read_rttm([path])
    assert set(turns) == {"talk", "other"}
    assert turns["talk"].speaker(0.0, 1.0) == "A"
    assert turns["talk"].speaker(3.0, 4.0) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("SPEAKER talk 1 0.5", r"a.rttm, line 1: must be SPEAKER FILE CHANNEL START DURATION"),
        ("SPEAKER talk 1 x 1 <NA> <NA> A", r"line 1: must be SPEAKER"),
        ("SPEAKER talk 1 -1 1 <NA> <NA> A", r"with times >= 0"),
        ("SPEAKER talk 1 nan 1 <NA> <NA> A", r"with times >= 0"),
        ("hello", r"line 1: must begin with an RTTM type, got 'hello'"),
    ],
)
def test_damaged_lines_are_named(tmp_path, line, message):
    path = tmp_path / "a.rttm"
    path.write_text(line)
    with pytest.raises(EmojaxError, match=message):
        read_rttm([path])


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(EmojaxError, match=r"none.rttm: cannot be read as RTTM \(No such file or directory\)"):
        read_rttm([tmp_path / "none.rttm"])
    (tmp_path / "binary.rttm").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EmojaxError, match=r"binary.rttm: cannot be read as RTTM \(is not UTF-8 text\)"):
        read_rttm([tmp_path / "binary.rttm"])


def test_an_rttm_of_another_recording_is_an_error_that_names_both(tmp_path):
    turns = {"other": make_turns([(0.0, 1.0, "A")])}
    with pytest.raises(EmojaxError, match=r"--rttm must have turns of my_talk .*, got turns of other"):
        check_recordings([tmp_path / "my talk.wav"], turns)
    check_recordings([tmp_path / "my talk.wav", tmp_path / "other.wav"], turns)
    assert recording_id(tmp_path / "my talk.part.wav") == "my_talk.part"
