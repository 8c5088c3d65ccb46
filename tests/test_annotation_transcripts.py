"""Transcripts of segments: grouping into windows, assignment of words, a recognizer with known words, Whisper."""

import io
import itertools

from hypothesis import given
from hypothesis import strategies as st

from emojax.annotation import transcripts
from emojax.annotation.recording import measure
from emojax.annotation.transcripts import (
    assign_words,
    group_segments,
    load_word_recognizer,
    texts_between,
    transcribe,
)
from emojax.recognition import DecodingOptions
from emojax.recognition.transcript import Segment, Transcript, Word
from emojax.transcription.config import RecognizerConfig
from tests.annotation_examples import bursts

PARTS = st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 15)), max_size=20)


def spans_of(parts):
    spans, position = [], 0.0
    for gap, length in parts:
        spans.append((position + gap, position + gap + length))
        position = spans[-1][1]
    return spans


@given(PARTS)
def test_groups_have_every_segment_once_and_fit_in_a_window(parts):
    spans = spans_of(parts)
    groups = group_segments(spans, 30.0)
    assert [number for group in groups for number in group] == list(range(len(spans)))
    assert all(spans[group[-1]][1] - spans[group[0]][0] <= 30.0 for group in groups)
    for group, following in itertools.pairwise(groups):
        assert spans[following[0]][1] - spans[group[0]][0] > 30.0


@given(PARTS.filter(bool), st.lists(st.tuples(st.floats(0, 100), st.floats(0, 2)), max_size=10))
def test_each_word_is_in_one_segment_the_one_with_most_of_it(parts, times):
    spans = spans_of(parts)
    words = [Word("w", start, start + length, 1.0) for start, length in sorted(times)]
    assigned = assign_words(words, spans)
    assert sorted(map(id, words)) == sorted(id(word) for own in assigned for word in own)
    for (start, end), own in zip(spans, assigned, strict=True):
        for word in own:
            mine = min(word.end, end) - max(word.start, start)
            assert all(mine >= min(word.end, b) - max(word.start, a) for a, b in spans)


def test_texts_of_windows_have_the_words_whose_middle_is_inside():
    words = [Word("a", 0.0, 1.0, 1.0), Word("b", 1.0, 1.2, 1.0), Word("c", 3.0, 4.0, 1.0)]
    assert texts_between(words, [(0.0, 1.1), (0.5, 3.5), (1.0, 3.6), (5.0, 6.0)]) == ["a", "a b", "b c", ""]
    assert texts_between([], [(0.0, 1.0)]) == [""]


class Spoken:
    """A word per second of each clip."""

    min_samples = 400

    def __init__(self, language="en"):
        self.clips, self._language = [], language

    def transcribe_all(self, clips):
        self.clips += [len(clip) for clip in clips]
        found = []
        for clip in clips:
            seconds = len(clip) // 16_000
            words = tuple(Word(f"w{number}", number + 0.25, number + 0.75, 0.5) for number in range(seconds))
            found.append(Transcript("…", (Segment("…", 0.0, seconds, -0.1, 1.0, words=words),), self._language))
        return found


def recording_of(seconds):
    return measure([bursts(seconds, [])], io.BytesIO(), None)


def test_words_have_times_of_the_recording():
    spans = [(1.0, 3.0), (4.0, 5.0), (40.0, 42.0)]
    recognizer, seen = Spoken(), []
    texts = transcribe(recognizer, recording_of(50), spans, seen.append)
    assert recognizer.clips == [4 * 16_000, 2 * 16_000]
    assert [text.text for text in texts] == ["w0 w1 w2", "w3", "w0 w1"]  # w2 is in the pause, as near to both
    assert texts[2].words[0] == Word("w0", 40.25, 40.75, 0.5)
    assert sum(seen) == 6.0
    assert transcribe(Spoken("ja"), recording_of(50), spans)[2].text == "w0w1"


def test_a_segment_that_is_too_short_has_no_words():
    (text,) = transcribe(Spoken(), recording_of(1), [(0.0, 0.01)])
    assert (text.text, text.words) == ("", ())


def test_no_segments_have_no_texts():
    assert transcribe(Spoken(), recording_of(1), []) == []


def test_times_of_words_are_asked_for_with_the_options_of_the_config(monkeypatch):
    calls = []
    monkeypatch.setattr(transcripts, "load_recognizer", lambda *given, **named: calls.append((given, named)))
    load_word_recognizer(RecognizerConfig("FOLDER", dtype="bfloat16", decoding=DecodingOptions(language="de")))
    (((folder, options), named),) = calls
    assert (folder, options.dtype) == ("FOLDER", "bfloat16")
    assert named == {"decoding": DecodingOptions(language="de", word_times=True), "revision": None}
