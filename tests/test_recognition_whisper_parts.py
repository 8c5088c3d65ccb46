"""Parts of recognition with Whisper that need no checkpoint, against transformers' functions."""

import types

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.generation import logits_process
from transformers.models.whisper import generation_whisper

from emojax.errors import ConfigError
from emojax.recognition import DecodingOptions, Word
from emojax.recognition.alignment import cheapest_path, median_filter
from emojax.recognition.decoding import first_maximum
from emojax.recognition.fallback import best_text, cut_loops, is_accepted, is_silent, make_text
from emojax.recognition.token_rules import TokenRules, apply_rules, extend_history, start_history
from emojax.recognition.whisper_tokens import WhisperTokens
from emojax.recognition.windows import divide_window
from emojax.recognition.words import make_words

# Ids: 0 ... 9 text, 10 end, 11 start, 12 no time stamps, 13 ... 40 time stamps.
END, NO_TIMESTAMPS, VOCAB_SIZE = 10, 12, 41
RULES = TokenRules(END, NO_TIMESTAMPS, (3, 11), (7,), True, latest_first=4)
FAST = hypothesis.settings(deadline=None, max_examples=60)


def reference_rules(sequence, scores):
    settings = types.SimpleNamespace(
        no_timestamps_token_id=NO_TIMESTAMPS, eos_token_id=END, bos_token_id=END, max_initial_timestamp_index=4
    )
    ids = torch.tensor([[11, *sequence]])
    for processor in (
        logits_process.SuppressTokensAtBeginLogitsProcessor([7], begin_index=1),
        logits_process.SuppressTokensLogitsProcessor([3, 11]),
        logits_process.WhisperTimeStampLogitsProcessor(settings, begin_index=1),
    ):
        scores = processor(ids, scores)
    return scores


@pytest.mark.parametrize("length", [0, 1, 2, 3, 6])
def test_rules_equal_those_of_transformers(length):
    random = np.random.default_rng(length)
    sequences = random.choice([*range(10), *range(13, 41), *range(20, 30)], (200, length))
    logits = random.normal(size=(200, VOCAB_SIZE)).astype(np.float32)
    logits[:, 13:] -= random.choice([0, 6], (200, 1))

    @jax.jit
    def ours(logits):
        history = start_history(RULES, 200)
        for column in sequences.T:
            history = extend_history(RULES, history, jnp.asarray(column, jnp.int32))
        return apply_rules(RULES, logits, history, length == 0)

    expected = [
        reference_rules(row, torch.tensor(scores[None]))[0] for row, scores in zip(sequences, logits, strict=True)
    ]
    np.testing.assert_array_equal(ours(logits), np.stack(expected))


def test_without_time_stamps_only_suppressed_tokens_are_excluded():
    rules = TokenRules(END, NO_TIMESTAMPS, (3, 11), (7,))
    history = start_history(rules, 1)
    for first, banned in ((True, [3, 7, 11]), (False, [3, 11])):
        found = apply_rules(rules, jnp.zeros((1, VOCAB_SIZE)), history, first)[0]
        assert np.flatnonzero(np.isneginf(found)).tolist() == banned


@FAST
@hypothesis.example([15, 1, 13])
@hypothesis.given(st.lists(st.sampled_from([1, 2, 3, 13, 15, 20, 31, 40]), min_size=1, max_size=12))
def test_segments_and_next_window_equal_those_of_transformers(tokens):
    num_samples = 28 * 320
    segments, offset = generation_whisper.WhisperGenerationMixin._retrieve_segment(
        seek_sequence=torch.tensor(tokens),
        seek_outputs=[{}],
        time_offset=torch.zeros(1, dtype=torch.float64),
        timestamp_begin=13,
        seek_num_frames=torch.tensor([56]),
        time_precision=0.02,
        time_precision_features=0.01,
        input_stride=2,
        prev_idx=0,
        idx=0,
        return_token_timestamps=False,
        decoder_input_ids=torch.zeros(1, 1),
    )
    pieces, advance = divide_window(tokens, 13, num_samples)
    words = [[token for token in segment["tokens"].tolist() if token < 13] for segment in segments]
    assert [[token for token in piece.tokens if token < 13] for piece in pieces] == words
    assert advance == (int(offset) * 160 or num_samples)
    for piece, segment in zip(pieces, segments, strict=True):
        # transformers subtracts also where a segment starts with text: there is no time then.
        assert piece.start == pytest.approx(max(float(segment["start"]), 0.0))
        assert piece.end == pytest.approx(max(float(segment["end"]), 0.0))


def test_times_are_within_the_window():
    pieces, advance = divide_window([13, 1, 40, 40], 13, 10 * 320)
    assert [(piece.start, piece.end) for piece in pieces] == [(0.0, 0.2)]
    assert advance == 10 * 320


@FAST
@hypothesis.given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-2, 2))
)
def test_cheapest_path_equals_that_of_transformers(costs):
    ours = cheapest_path(costs)
    for found, expected in zip(ours, generation_whisper._dynamic_time_warping(costs), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("frames", [3, 4, 30])
def test_median_filter_equals_that_of_transformers(frames):
    values = np.random.default_rng(0).normal(size=(2, 3, frames))
    expected = generation_whisper._median_filter(torch.tensor(values), 7)
    np.testing.assert_array_equal(median_filter(values, 7), expected)


def test_first_of_equal_maxima():
    values = jnp.array([[0.0, 2.0, 2.0], [-jnp.inf, -jnp.inf, -1.0], [1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(first_maximum(values), [1, 2, 0])


WORDS = (" I", " know", " it", "'s", ".", " (", "the", " end", ")", "!", b" \xc3", b"\xbcber", " -", "a")
VOCABULARY = WhisperTokens(
    texts={number: text if isinstance(text, bytes) else text.encode() for number, text in enumerate(WORDS)},
    end=50,
    start=51,
    no_speech=52,
    no_timestamps=53,
    tasks={},
    languages={},
)


def ids(*words):
    return [WORDS.index(word) for word in words]


def test_words_have_the_times_and_probabilities_of_their_tokens():
    tokens = ids(" I", " know", " it", "'s", ".", " (", "the", " end", ")", "!", b" \xc3", b"\xbcber")
    times = np.arange(len(tokens) + 1) / 10
    probabilities = np.arange(len(tokens)) / 100
    found = make_words(tokens, times, probabilities, VOCABULARY, "en")
    assert [word.text for word in found] == ["I", "know", "it's.", "(the", "end)!", "über"]
    assert found[2] == Word("it's.", 0.2, 0.4, pytest.approx(0.025))
    assert found[3] == Word("(the", 0.5, 0.7, pytest.approx(0.055))
    assert found[-1] == Word("über", 1.0, 1.2, pytest.approx(0.105))


def test_characters_are_words_in_languages_without_spaces():
    found = make_words(ids("the", "a", b" \xc3", b"\xbcber"), np.arange(5.0), np.ones(4), VOCABULARY, "zh")
    assert [word.text for word in found] == ["the", "a", "über"]


def test_incomplete_characters_at_the_end_are_kept():
    found = make_words(ids(" I", b" \xc3"), np.arange(3.0), np.ones(2), VOCABULARY, "en")
    assert [word.text for word in found] == ["I", "\ufffd"]


OPTIONS = DecodingOptions()


def text(tokens=(0, 1), log_probability=-0.5, no_speech=0.1, temperature=0.0):
    return make_text(tokens, VOCABULARY, log_probability, no_speech, temperature)


def test_repetitions_and_improbable_texts_are_not_accepted_and_silence_is():
    loop = text(ids(" I", " know") * 40)
    assert loop.compression_ratio > 2.4
    assert not is_accepted(loop, OPTIONS)
    assert not is_accepted(text(log_probability=-1.2), OPTIONS)
    assert is_accepted(text(), OPTIONS)
    silence = text(log_probability=-1.2, no_speech=0.7)
    assert is_accepted(silence, OPTIONS)
    assert is_silent(silence, OPTIONS)
    assert not is_silent(text(no_speech=0.7), OPTIONS)
    unlimited = DecodingOptions(
        compression_ratio_threshold=None, log_probability_threshold=None, no_speech_threshold=None
    )
    assert is_accepted(loop, unlimited)
    assert not is_silent(silence, unlimited)


def test_the_most_probable_text_without_repetitions_remains():
    loop = text(ids(" I", " know") * 40, log_probability=-0.1)
    attempts = [loop, text(log_probability=-1.5), text(log_probability=-1.1), text(log_probability=-1.3)]
    assert best_text(attempts, OPTIONS) is attempts[2]
    assert best_text([loop, text(loop.tokens, -0.05)], OPTIONS).log_probability == -0.05
    assert best_text([*attempts, text(log_probability=-0.9)], OPTIONS).log_probability == -0.9


def test_loops_are_cut_to_one_repetition_and_counted():
    loop = ids(" I", " know", " it")
    tokens = [*ids(" end"), *loop * 30, *ids("a", "a", "a"), *ids("!") * 50]
    found = cut_loops(text(tokens), VOCABULARY, OPTIONS)
    assert list(found.tokens) == [*ids(" end"), *loop, *ids("a", "a", "a"), *ids("!")]
    assert found.loops == 2
    assert found.compression_ratio < 2.4
    assert cut_loops(text(ids("a") * 5), VOCABULARY, OPTIONS).loops == 0


def test_loops_whose_time_stamps_differ_are_cut():
    tokens = [54]
    for second in range(40):
        tokens += [*ids(" I", " know", " it"), 55 + second, 55 + second]
    found = cut_loops(text(tokens), VOCABULARY, OPTIONS)
    assert found.loops == 1
    assert VOCABULARY.decode(found.tokens) == " I know it"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam_size": 0}, "beam_size must be >= 1 and <= 16, got 0"),
        ({"temperatures": ()}, "temperatures must .*not be empty"),
        ({"temperatures": (0.4, 0.2)}, r"temperatures must increase, got \(0.4, 0.2\)"),
        ({"temperatures": (0.0, 3.0)}, "must be >= 0 and <= 2, got 3.0"),
        ({"task": "sing"}, "task must be 'transcribe' or 'translate', got 'sing'"),
        ({"log_probability_threshold": 0.5}, "log_probability_threshold must be <= 0, got 0.5"),
    ],
)
def test_options_out_of_bounds_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        DecodingOptions(**changes)
