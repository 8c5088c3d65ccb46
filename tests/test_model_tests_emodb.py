"""Model tests on EmoDB with models whose outcome is known: each passes and fails exactly what it should."""

import dataclasses
import functools

import numpy as np
import pytest

from emojax.model_tests import (
    Clip,
    Measurement,
    ModelTestsConfig,
    conditions,
    fairness,
    groups,
    run_model_tests,
    sentiment,
)
from emojax.model_tests.config import FairnessConfig, RobustnessConfig
from emojax.model_tests.measurement import Condition
from emojax.types import CorpusInfo
from tests.model_doubles import (
    BandDouble,
    Double,
    RandomDouble,
    failed_tests,
    in_memory,
    measured_tests,
    outcomes,
    toy_info,
)
from tfds_builders.emodb.recordings import CATEGORIES, read_recordings
from tfds_builders.utterance import read_pcm

CONFIG = ModelTestsConfig(robustness=RobustnessConfig(utterances=24), fairness=FairnessConfig(simulations=200))
CORRECTNESS = {"classification", "distribution", "speaker average"}
ROBUSTNESS = {"background noise", "low-quality phone", "rooms", "small changes", "spectral tilt"}
ROBUSTNESS |= {"sample rate", "compression"}


@pytest.fixture(scope="module")
def emodb():
    """The test split: 71 recordings of a woman, 56 of a man."""
    recordings = [recording for recording in read_recordings() if recording.split == "test"]
    clips = [Clip(r.path.stem, read_pcm(r.path).astype(np.float32) / np.float32(2**15), r.text) for r in recordings]
    info = CorpusInfo("emodb/1.0.0", (0.0, 1.0), CATEGORIES, "recorded", "none", "CC0-1.0", "Burkhardt et al.")
    return in_memory(
        info,
        clips,
        emotion=[recording.emotion for recording in recordings],
        speakers=[recording.speaker for recording in recordings],
        sexes=[recording.gender for recording in recordings],
    )


@pytest.fixture(scope="module", autouse=True)
def degraded_once():
    """Every condition is computed for the first model alone: a degradation does not depend on the model."""
    computed = {}

    def condition(name, degrade, missing=""):
        def degrade_once(waveforms, ids, seed):
            key = (name, tuple(ids), seed)
            if key not in computed:
                computed[key] = degrade(waveforms, ids, seed)
            return computed[key]

        return Condition(name, degrade_once, missing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditions, "Condition", condition)
        for bank in ("noise_bank", "room_bank"):
            patch.setattr(conditions, bank, functools.cache(getattr(conditions, bank)))
        yield


@pytest.fixture
def utterances(emodb, monkeypatch):
    """With the pitch of the speaker's sex and no sentences: their own tests use the real ones."""
    pitch = {id: 210.0 if sex == "female" else 120.0 for id, sex in zip(emodb.ids, emodb.groups["sex"], strict=True)}
    waveforms = {}

    def read(rows):
        clips = emodb.read(rows)
        waveforms.update({clip.waveform.tobytes(): clip.id for clip in clips})
        return clips

    monkeypatch.setattr(groups, "mean_f0", lambda waveform: pitch[waveforms[waveform.tobytes()]])
    monkeypatch.setattr(sentiment, "missing_voice", lambda: "no voice in this test")
    return dataclasses.replace(emodb, read=read)


def test_an_oracle_passes_everything_that_is_measured(utterances):
    oracle = Double(utterances, emotion=utterances.emotion, name="oracle")
    results = run_model_tests(oracle, utterances, CONFIG).results
    assert not failed_tests(results)
    assert measured_tests(results) == CORRECTNESS | {"sex", "pitch"} | ROBUSTNESS
    assert {r.value for r in results if r.metric == "UAR"} == {1.0}


def test_skipped_tests_state_the_reason(utterances):
    oracle = Double(utterances, emotion=utterances.emotion)
    results = run_model_tests(oracle, utterances, CONFIG).results
    notes = {(r.test, r.output, r.condition): r.note for r in results if r.status == "skipped"}
    assert notes["regression", "", ""] == "the model predicts no attributes"
    assert notes["distribution", "attributes", ""] == "the model predicts no attributes"
    assert notes["speaker ranking", "emotion", "anger"].startswith("2 speakers with at least 10 labelled utterances")
    assert notes["accent", "", ""].startswith("the corpus has no accent")
    assert notes["linguistic sentiment", "", ""] == "no voice in this test"
    assert "music" in notes["background noise", "", "music, 20 dB"]
    assert "parallel" in notes["recording condition", "", ""]
    assert any(note.startswith("too small: ") for (test, *_), note in notes.items() if test == "sex")


def test_a_constant_fails_correctness_alone(utterances):
    constant = Double(utterances, emotion=np.full(127, CATEGORIES.index("anger")), name="constant")
    results = run_model_tests(constant, utterances, CONFIG).results
    assert failed_tests(results) == CORRECTNESS
    failed = outcomes(results, "failed")
    expected = {("classification", "emotion", "UAR", ""), ("classification", "emotion", "UAP", "")}
    expected |= {("classification", "emotion", m, c) for m in ("recall", "precision") for c in CATEGORIES}
    expected -= {("classification", "emotion", "recall", "anger")}
    assert {row for row in failed if row[0] == "classification"} == expected
    (uar,) = (r.value for r in results if r.metric == "UAR")
    assert uar == pytest.approx(1 / 7)


def random_model(seed):
    return RandomDouble(categories=CATEGORIES, predicted=(False,) * 3, seed=seed)


def test_a_random_model_is_neither_correct_nor_robust(utterances):
    results = run_model_tests(random_model(0), utterances, CONFIG).results
    assert "classification" in failed_tests(results)
    unchanged = [r for r in results if r.metric == "share unchanged"]
    assert len(unchanged) == 46
    assert all(r.status == "failed" and r.value < 0.5 for r in unchanged)


def test_random_models_are_fair_but_for_chance(utterances):
    results = [r for seed in range(12) for r in fairness.sex(Measurement(random_model(seed), utterances, CONFIG))]
    measured = [r for r in results if r.status != "skipped"]
    assert len(measured) > 100
    assert sum(r.status == "failed" for r in measured) < 0.1 * len(measured)  # 5 % are expected


def test_a_model_that_is_wrong_for_one_sex_fails_the_fairness_of_sex(utterances):
    emotion = utterances.emotion.copy()
    women = np.flatnonzero(np.array(utterances.groups["sex"]) == "female")
    emotion[women] = (emotion[women] + 1) % len(CATEGORIES)
    biased = Double(utterances, emotion=emotion, name="biased")
    results = run_model_tests(biased, utterances, CONFIG).results
    assert {"sex", "pitch"} <= failed_tests(results)
    assert not failed_tests(results) & ROBUSTNESS
    (difference,) = (r for r in results if r.test == "sex" and r.metric == "difference of UAR")
    assert difference.status == "failed"
    assert difference.value == pytest.approx(0.5)  # right for men, wrong for women, half for all
    assert "% of random models exceed" in difference.note


def test_a_model_deaf_to_high_frequencies_passes_what_concerns_them(utterances):
    utterances = dataclasses.replace(utterances, info=toy_info(CATEGORIES, "none"))
    results = run_model_tests(BandDouble(300, 2000, factor=0.5), utterances, CONFIG).results
    assert measured_tests(results) == {"consistency"} | ROBUSTNESS
    assert failed_tests(results) & ROBUSTNESS == {"rooms", "spectral tilt"}


def test_a_model_of_high_frequencies_fails_what_removes_or_covers_them(utterances):
    utterances = dataclasses.replace(utterances, info=toy_info(CATEGORIES, "none"))
    results = run_model_tests(BandDouble(4000, 8000), utterances, CONFIG).results
    failed = {(test, condition) for test, _, _, condition in outcomes(results, "failed")}
    small = {condition for test, condition in failed if test == "small changes"}
    assert small - {"clipping of 0.2 %", "clipping of 0.3 %"} == {"low-pass 7000 Hz", "low-pass 6500 Hz"}
    assert {condition for test, condition in failed if test == "sample rate"} == {"8000 Hz", "11025 Hz"}
    assert {condition for test, condition in failed if test == "compression"} == {"GSM 06.10, 13 kbit/s at 8 kHz"}
    assert {condition for test, condition in failed if test == "background noise"} == {"white noise, 20 dB"}
    assert ("low-quality phone", "compressor, AMR-NB, pink noise") in failed
