"""EmoBank spoken: texts and ratings of EmoBank, prosody by its formulas, reproducibility."""

import csv
import dataclasses
import hashlib
import itertools
import math

import numpy as np
import pytest
from scipy import signal
from tfds_builders.emobank_spoken.espeak import ESPEAK_RATE, Delivery, speak
from tfds_builders.emobank_spoken.voices import SPEAKERS

from emojax.audio import to_mono_16khz
from emojax.data import open_corpus, open_split
from emojax.errors import CorpusError
from tfds_builders.build import build
from tfds_builders.emobank_spoken import sentences as sentences_module
from tfds_builders.emobank_spoken.emobank_spoken_dataset_builder import Builder, EmoBankConfig
from tfds_builders.emobank_spoken.prosody import draw_prosody, draw_speaker
from tfds_builders.emobank_spoken.sentences import (
    FRAGMENT_WORDS,
    SPLITS,
    Sentence,
    fragments,
    read_sentences,
    subsample,
)
from tfds_builders.emobank_spoken.speech import Item, active_level_db, make_utterance
from tfds_builders.utterance import Made

_TINY = EmoBankConfig(name="tiny", train=20, dev=6, test=6)
_VOICE = Delivery("gmw/en-US+f1", 170, 50, 50)


@pytest.fixture(scope="module")
def sentences():
    return {sentence.id: sentence for sentence in read_sentences()}


@pytest.fixture(scope="module")
def rows():
    """`emobank.csv`, read by other code."""
    with (sentences_module._FOLDER / "emobank.csv").open(encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build(Builder, tmp_path_factory.mktemp("tiny"), _TINY)


def _examples(built):
    corpus = open_corpus(str(built.full_name).rpartition("/")[0], built.directory.parents[2])
    return [(split, example) for split in corpus.split_sizes for example in open_split(corpus, split)]


def _digests(built):
    """MD5 of every decoded example, in order."""
    return [hashlib.md5(repr(sorted(_plain(example).items())).encode()).hexdigest() for _, example in _examples(built)]


def _plain(example):
    return {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in example.items()}


def test_examples_have_texts_splits_and_attributes_of_emobank(tiny, rows):
    assert tiny.num_examples == {"train": 20, "dev": 6, "test": 6}
    for split, example in _examples(tiny):
        row = rows[example["id"].decode()]
        assert row["split"] == split
        assert row["text"].strip() == example["transcript"].decode()
        np.testing.assert_array_equal(example["attributes"], np.array([row["A"], row["V"], row["D"]], np.float32))
        assert example["emotion"] == -1
        assert example["emotion_votes"].shape == (0,)
        assert example["duration"] == np.float32(len(example["audio"]) / 16_000)
        assert len(example["audio"]) > 1600
        assert 0 < np.abs(example["audio"].astype(int)).max() < 32_767


def test_attribute_order_of_a_known_sentence():
    superb = {s.id: s for s in read_sentences()}["vampires_4446_4474"]
    example = make_utterance(Item(superb, 0)).example
    assert example["transcript"] == "lol Wonderful Simply Superb!"
    np.testing.assert_array_equal(example["attributes"], np.array([4.3, 4.6, 3.7], np.float32))
    np.testing.assert_array_equal(example["attributes_std"], np.array([0.4, 0.4, 0.0], np.float32))


def test_metadata_states_synthetic_speech(tiny):
    info = open_corpus("emobank_spoken/tiny", tiny.directory.parents[2]).info
    assert (info.speech, info.attribute_source, info.scale, info.categories) == ("synthesised", "rated", (1.0, 5.0), ())
    assert info.licence == "CC BY-SA 4.0"
    assert "Buechel" in info.citation


def test_examples_depend_on_seed_and_not_on_number_of_processes(tiny, tmp_path):
    again = build(Builder, tmp_path / "again", _TINY, processes=2)
    assert _digests(again) == _digests(tiny)
    other = build(Builder, tmp_path / "other", dataclasses.replace(_TINY, seed=1))
    audio = {example["id"]: example["audio"].tobytes() for _, example in _examples(tiny)}
    changed = [audio[example["id"]] != example["audio"].tobytes() for _, example in _examples(other)]
    assert len(changed) == 32
    assert all(changed)


def test_synthesis_does_not_depend_on_earlier_calls():
    voices = [speaker.voice for speaker in SPEAKERS]
    alone = {voice: speak("One two.", dataclasses.replace(_VOICE, voice=voice)).tobytes() for voice in voices}
    for voice in reversed(voices):
        assert speak("One two.", dataclasses.replace(_VOICE, voice=voice)).tobytes() == alone[voice]


def test_speakers_are_split_disjoint_balanced_and_acoustically_different(sentences):
    assert len({speaker.variant for speaker in SPEAKERS}) == len(SPEAKERS) == 32
    assert {split: sum(s.split == split for s in SPEAKERS) for split in SPLITS} == {"train": 18, "dev": 6, "test": 8}
    for split in SPLITS:
        drawn = [draw_speaker(s, seed=0) for s in sentences.values() if s.split == split]
        assert {speaker.split for speaker in drawn} == {split}
        assert {"female", "male"} <= {speaker.gender for speaker in drawn}
        counts = np.unique([speaker.variant for speaker in drawn], return_counts=True)[1]
        assert len(counts) == sum(s.split == split for s in SPEAKERS)
        assert counts.max() < 1.5 * counts.min()
    spectra = np.array([_spectrum(speaker.voice) for speaker in SPEAKERS])
    distance = np.sqrt(((spectra[:, None] - spectra[None]) ** 2).mean(-1)) + np.diag(np.full(len(SPEAKERS), np.inf))
    assert distance.min() > 1.0


def _spectrum(voice):
    """Long-term spectrum in bands of a third of an octave (dB), level removed."""
    waveform = to_mono_16khz(speak("We were away a year ago.", dataclasses.replace(_VOICE, voice=voice)), ESPEAK_RATE)
    hertz, power = signal.welch(waveform, 16_000, nperseg=1024)
    edges = 100 * 2 ** (np.arange(20) / 3)
    bands = [power[(hertz >= low) & (hertz < high)].sum() for low, high in itertools.pairwise(edges)]
    decibel = 10 * np.log10(np.array(bands) + 1e-12)
    return decibel - decibel.mean()


def test_configs_have_stated_sizes_and_equal_audio(tmp_path):
    full, quick = (Builder(data_dir=tmp_path, config=name).items(None) for name in ("full", "quick"))
    assert {split: len(items) for split, items in full.items()} == {"train": 8062, "dev": 1000, "test": 1000}
    assert {split: len(items) for split, items in quick.items()} == {"train": 3000, "dev": 500, "test": 1000}
    assert all(set(quick[split]) <= set(full[split]) for split in SPLITS)


def test_fragments_are_unrated_words_of_training_sentences_in_training_voices(tmp_path, sentences):
    built = build(Builder, tmp_path, EmoBankConfig(name="cut", train=30, fragments=4))
    assert built.num_examples == {"unlabelled": 120}
    corpus = open_corpus("emobank_spoken/cut", tmp_path)
    assert (corpus.info.attribute_source, corpus.info.speech, corpus.split_assignment) == ("none", "synthesised", None)
    heard = {speaker.variant for speaker in SPEAKERS if speaker.split == "train"}
    for _, example in _examples(built):
        source = sentences[example["id"].decode().rpartition("_fragment")[0]]
        text = example["transcript"].decode()
        assert source.split == "train"
        assert f" {text} " in f" {' '.join(source.text.split())} "
        low, high = FRAGMENT_WORDS
        assert low <= len(text.split()) <= high or len(text.split()) == len(source.text.split())
        assert np.isnan(example["attributes"]).all()
        assert np.isnan(example["attributes_std"]).all()
        assert example["speaker"].decode() in heard


def test_fragments_depend_on_their_sentence_only_and_cover_it(sentences):
    chosen = [s for s in sentences.values() if len(s.text.split()) == 30][:2]
    cut = list(fragments(chosen, 200, 0))
    assert [piece.text for piece in fragments(chosen[1:], 200, 0)] == [piece.text for piece in cut[200:]]
    words = chosen[0].text.split()
    assert {word for piece in cut[:200] for word in piece.text.split()} == set(words)
    assert {len(piece.text.split()) for piece in cut} == set(range(FRAGMENT_WORDS[0], FRAGMENT_WORDS[1] + 1))


def test_subsample_is_nested_and_independent_of_order(sentences):
    everything = list(sentences.values())
    small, large = subsample(everything, 10), subsample(everything, 40)
    assert set(small) < set(large)
    assert set(subsample(everything[::-1], 10)) == set(small)


def test_sentences_without_words_are_skipped_and_long_ones_kept(sentences):
    assert sum(not sentence.has_words for sentence in sentences.values()) == 7
    nothing = next(s for s in sentences.values() if not s.has_words)
    assert make_utterance(Item(nothing, 0)) == Made(None, ("skipped_no_words",))
    longest = max(sentences.values(), key=lambda sentence: len(sentence.text))
    made = make_utterance(Item(longest, 0))
    assert made.counted == ("longer_than_30_s",)
    assert made.example["duration"] > 30


def test_prosody_depends_on_activation_and_dominance_but_not_on_valence(sentences):
    sentence = sentences["110CYL068_1137_1188"]
    speaker = draw_speaker(sentence, 0)

    def prosody(activation, valence, dominance):
        return draw_prosody(dataclasses.replace(sentence, attributes=(activation, valence, dominance)), speaker, 0)

    assert prosody(3.0, 1.0, 3.0) == prosody(3.0, 5.0, 3.0)
    calm, excited = prosody(2.5, 3.0, 3.0), prosody(3.5, 3.0, 3.0)
    assert calm.rate < excited.rate
    assert calm.pitch < excited.pitch
    assert calm.level_db < excited.level_db
    weak, strong = prosody(3.0, 3.0, 2.8), prosody(3.0, 3.0, 3.3)
    assert weak.rate > strong.rate
    assert weak.pitch > strong.pitch
    assert weak.level_db < strong.level_db


def test_rate_follows_its_formula():
    # Ratings at the mean: the cue is the sum of the two reproducible normal draws.
    ids = [f"sentence {number}" for number in range(4000)]
    speaker = SPEAKERS[0]
    cues = [
        math.log(draw_prosody(Sentence(i, "train", "x", (2.98, 3.0, 3.06), (0, 0, 0)), speaker, 5).rate / 165) / 0.20
        for i in ids
    ]
    assert np.std(cues) == pytest.approx(0.65, abs=0.03)
    assert abs(np.mean(cues)) < 3 * 0.25


def test_regression_on_prosody_reaches_documented_ccc(sentences):
    usable = [sentence for sentence in sentences.values() if sentence.has_words]
    drawn = [draw_prosody(sentence, draw_speaker(sentence, 0), 0) for sentence in usable]
    cues = np.array([(math.log(p.rate), p.pitch, p.pitch_range, p.level_db, 1.0) for p in drawn])
    ratings = np.array([sentence.attributes for sentence in usable])
    train, test = (np.array([sentence.split == split for sentence in usable]) for split in ("train", "test"))
    predicted = cues[test] @ np.linalg.lstsq(cues[train], ratings[train], rcond=None)[0]
    x, y = predicted - predicted.mean(0), ratings[test] - ratings[test].mean(0)
    bias = predicted.mean(0) - ratings[test].mean(0)
    ccc = 2 * (x * y).mean(0) / (predicted.var(0) + ratings[test].var(0) + bias**2)
    np.testing.assert_allclose(ccc, [0.79, 0.13, 0.64], atol=0.02)


def test_level_equals_the_drawn_one(sentences):
    for sentence in subsample([s for s in sentences.values() if s.split == "dev" and s.has_words], 5):
        made = make_utterance(Item(sentence, 0))
        drawn = draw_prosody(sentence, draw_speaker(sentence, 0), 0).level_db
        assert made.counted == ()
        assert active_level_db(made.example["audio"] / np.float32(2**15)) == pytest.approx(drawn, abs=0.1)


def test_gain_is_limited_to_avoid_clipping_and_counted(sentences, monkeypatch):
    monkeypatch.setattr("tfds_builders.emobank_spoken.speech.draw_prosody", _loud)
    made = make_utterance(Item(sentences["110CYL068_1137_1188"], 0))
    assert made.counted == ("level_lowered_to_avoid_clipping",)
    assert np.abs(made.example["audio"].astype(int)).max() == pytest.approx(0.98 * 32_768, abs=1)


def _loud(sentence, speaker, seed):
    return dataclasses.replace(draw_prosody(sentence, speaker, seed), level_db=0.0)


def test_phoneme_brackets_and_tags_are_plain_text():
    assert len(speak("[[h@l'oU]]", _VOICE)) > 1.5 * len(speak("hello", _VOICE))
    assert len(speak("<b>hi</b>", _VOICE)) > 1.5 * len(speak("hi", _VOICE))


def test_delivery_changes_the_audio():
    text = "We were away a year ago."
    slow, fast = (speak(text, dataclasses.replace(_VOICE, rate=rate)) for rate in (120, 240))
    assert len(slow) > 1.5 * len(fast)
    with pytest.raises(RuntimeError, match="no voice"):
        speak(text, dataclasses.replace(_VOICE, voice="gmw/en-US+nobody"))
    with pytest.raises(RuntimeError, match="out of range"):
        speak(text, dataclasses.replace(_VOICE, pitch=101))


def test_damaged_table_raises_naming_the_file(tmp_path, rows):
    with pytest.raises(CorpusError, match=r"reader\.csv: cannot be read"):
        read_sentences(tmp_path)
    (tmp_path / "reader.csv").write_text("id,stdV,stdA,stdD\n")
    (tmp_path / "emobank.csv").write_text("id,split,V,A,D,text\nx,train,3.0,,3.0,Hello\n")
    with pytest.raises(CorpusError, match="sentence 'x': A, V, D must be numbers"):
        read_sentences(tmp_path)
