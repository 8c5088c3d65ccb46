"""Model tests on emobank_spoken, which has ratings, with models whose outcome is known, and its voice."""

import dataclasses

import numpy as np
import pytest

from emojax.model_tests import Clip, ModelTestsConfig, Outputs, conditions, groups, run_model_tests, sentiment
from emojax.model_tests.config import CorrectnessConfig, FairnessConfig, RobustnessConfig
from emojax.types import ATTRIBUTES, CorpusInfo
from tests.model_doubles import Double, RandomDouble, failed_tests, in_memory, measured_tests, outcomes
from tfds_builders.emobank_spoken.sentences import read_sentences
from tfds_builders.emobank_spoken.talkers import draw_talker

CONFIG = ModelTestsConfig(
    correctness=CorrectnessConfig(ranking_speakers=8),
    fairness=FairnessConfig(simulations=200, sentiment_sentences=2),
    robustness=RobustnessConfig(utterances=3, rooms=1),
)
CORRECTNESS = {"regression", "distribution", "speaker average", "speaker ranking"}
BINS = [f"bin {number / 4:g} to {(number + 1) / 4:g}" for number in range(4)]


@pytest.fixture(scope="module")
def emobank():
    """Ratings and talkers of the test split; the audio, which these models do not use, is noise."""
    found = [sentence for sentence in read_sentences() if sentence.has_words][:600]
    talkers = [draw_talker(sentence, "test", 0) for sentence in found]
    random = np.random.default_rng(0)
    waveform = (0.1 * random.standard_normal(6400)).astype(np.float32)
    info = CorpusInfo("emobank_spoken/2.0.0", (1.0, 5.0), (), "synthesised", "rated", "CC-BY-SA-4.0", "Buechel & Hahn")
    return in_memory(
        info,
        [Clip(sentence.id, waveform, sentence.text) for sentence in found],
        attributes=(np.array([sentence.attributes for sentence in found]) - 1) / 4,
        speakers=[talker.id for talker in talkers],
        sexes=[talker.gender for talker in talkers],
    )


@pytest.fixture(scope="module", autouse=True)
def few_conditions():
    """One degradation per test: the conditions have their own tests."""
    small = list(conditions.small_changes())[15:16]
    room = conditions.room_bank("", "evaluation", 1, 0.5, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditions, "small_changes", lambda: small)
        patch.setattr(conditions, "compression", list)
        patch.setattr(conditions, "noise_bank", lambda *arguments: room)
        patch.setattr(conditions, "room_bank", lambda *arguments: room)
        patch.setattr(groups, "missing_estimator", lambda: "no estimator in this test")
        yield


def run(model, utterances):
    return run_model_tests(model, utterances, CONFIG).results


def test_an_oracle_passes_everything_that_is_measured(emobank):
    results = run(Double(emobank, attributes=emobank.attributes), emobank)
    assert not failed_tests(results)
    assert CORRECTNESS | {"sex", "linguistic sentiment", "small changes"} <= measured_tests(results)
    assert all(r.value == pytest.approx(1.0) for r in results if r.metric == "CCC")
    notes = {r.note for r in results if r.test == "sex" and r.condition == BINS[0] and r.status == "skipped"}
    assert any(note.startswith("too small: 0 labels in a group") for note in notes)  # EmoBank is seldom extreme


def test_a_constant_fails_correctness_alone(emobank):
    constant = np.broadcast_to(emobank.attributes.mean(axis=0), emobank.attributes.shape)
    results = run(Double(emobank, attributes=constant), emobank)
    assert failed_tests(results) == CORRECTNESS - {"speaker average"}
    failed = {row for row in outcomes(results, "failed") if row[0] == "regression"}
    assert failed == {("regression", name, m, "") for name in ATTRIBUTES for m in ("CCC", "Pearson correlation")}
    undefined = [r for r in results if r.metric == "Pearson correlation"]
    assert all(r.value is None and "constant" in r.note for r in undefined)


def test_a_random_model_is_fair_but_neither_correct_nor_robust(emobank):
    results = run(RandomDouble(), emobank)
    assert not {"sex"} & failed_tests(results)
    assert {"regression", "distribution", "speaker ranking", "small changes"} <= failed_tests(results)


def test_a_model_that_is_wrong_for_one_sex_fails_the_fairness_of_sex_alone(emobank):
    predicted = emobank.attributes.copy()
    women = np.flatnonzero(np.array(emobank.groups["sex"]) == "female")
    predicted[women, 1] = np.random.default_rng(0).permutation(predicted[women, 1])
    results = run(Double(emobank, attributes=predicted), emobank)
    failed = outcomes(results, "failed")
    assert ("sex", "valence", "difference of CCC", "") in failed
    assert {(test, output) for test, output, *_ in failed if test == "sex"} == {("sex", "valence")}
    (difference,) = (r for r in results if r.metric == "difference of CCC" and r.output == "valence")
    assert difference.value > 0.4
    assert not failed & {(test, output, *rest) for test, output, *rest in failed if output != "valence"}


def test_a_model_of_words_alone_shifts_all_voices_equally(emobank):
    effects = {word: 0.2 * number for number, words in enumerate(sentiment.WORDS.values()) for word in words}

    class Words(RandomDouble):
        """Valence by the last word; the effect is double for one voice."""

        def __init__(self, double):
            super().__init__()
            self._double = double

        def __call__(self, clips):
            attributes = np.full((len(clips), 3), 0.5)
            for row, clip in enumerate(clips):
                effect = effects.get(clip.transcript.rstrip(".").split()[-1], 0.0)
                attributes[row, 1] = 0.1 + effect * (2 if clip.id.startswith(self._double) else 1)
            return Outputs(attributes, np.zeros((len(clips), 0)))

    config = dataclasses.replace(CONFIG, fairness=FairnessConfig(simulations=200, sentiment_sentences=12))
    fair, unfair = (
        [r for r in run_model_tests(Words(voice), emobank, config).results if r.test == "linguistic sentiment"]
        for voice in ("nobody", "male")
    )
    assert {r.status for r in fair} == {"passed"}
    assert any("female -0.200, male -0.200" in r.note for r in fair)
    assert {r.output for r in unfair if r.status == "failed"} == {"valence"}


def test_sentences_of_each_sentiment_have_the_same_subjects():
    spoken = sentiment.sentences(60)
    assert len(spoken) == len(set(spoken)) == 180
    subjects = {kind: [text.split()[1] for found, text in spoken if found == kind] for kind in sentiment.WORDS}
    assert subjects["positive"] == subjects["neutral"] == subjects["negative"]


def test_a_missing_voice_is_the_reason_of_a_skip(emobank, monkeypatch):
    monkeypatch.setattr(sentiment.importlib.util, "find_spec", lambda name: None)
    assert "pip install hibari-tts" in sentiment.missing_voice()
