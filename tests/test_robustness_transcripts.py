"""Transcripts of degraded clips in the robustness grid: recognised once, kept, of the corpus only if asked for."""

import dataclasses
import json

import numpy as np
import pytest

from emojax.model_tests.model import Constant
from emojax.robustness import measure
from emojax.robustness.page import render_grid_page
from emojax.robustness.transcripts import ConditionTranscripts
from tests.grid_doubles import CONFIG, N, a_model, run, sounds_for, tone_utterances


@pytest.fixture(scope="module")
def utterances():
    return tone_utterances()


@pytest.fixture(scope="module")
def sounds(utterances):
    return sounds_for(CONFIG, utterances)


@dataclasses.dataclass
class Reader(Constant):
    """A constant that keeps the transcripts it gets."""

    takes_transcripts = True

    def __init__(self):
        super().__init__(())
        self.seen = {}

    def __call__(self, clips):
        self.seen |= {clip.id: clip.transcript for clip in clips}
        return super().__call__(clips)


class FakeGridRecognizer:
    """Texts that follow from the loudness of the clips."""

    calls = 0

    def __init__(self, config):
        self.description = {"checkpoint": config.checkpoint}

    def __call__(self, clips):
        type(self).calls += len(clips)
        return [f"level {np.abs(clip).sum():.1f}" for clip in clips]


def test_models_that_read_words_get_transcripts_of_the_degraded_audio(utterances, sounds, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "GridRecognizer", FakeGridRecognizer)
    FakeGridRecognizer.calls = 0
    reader = Reader()
    config = dataclasses.replace(CONFIG, noise=dataclasses.replace(CONFIG.noise, kinds=("white",)))
    results = run([a_model(reader, "reader")], utterances, sounds, tmp_path, config)
    assert results.transcripts == {"reader": "recognised from the degraded audio"}
    conditions = [condition.name for condition in results.conditions]
    assert FakeGridRecognizer.calls == len(conditions) * N
    assert reader.seen["u3"].startswith("level ")
    assert results.counts["clean"].word_error_rate == 3.0  # e.g. level 123.4, in place of one word
    texts = {
        path.stem: [json.loads(line)["text"] for line in path.read_text().splitlines()[1:]]
        for path in (tmp_path / "test" / "transcripts").glob("*.jsonl")
    }
    assert len(texts) == len(conditions)
    assert len({tuple(each) for each in texts.values()}) == len(conditions)  # no condition has those of another
    other = Reader()
    run([a_model(reader, "reader"), a_model(other, "other")], utterances, sounds, tmp_path, config)
    assert FakeGridRecognizer.calls == len(conditions) * N  # kept for the second model
    assert other.seen == reader.seen


def test_transcripts_of_the_corpus_are_used_if_asked_for_and_labelled(utterances, sounds, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "GridRecognizer", None)
    reader = Reader()
    config = dataclasses.replace(CONFIG, transcripts="corpus")
    results = run([a_model(reader, "reader")], utterances, sounds, tmp_path, config)
    assert reader.seen["u3"] == "word3"
    assert results.shown_name("reader") == "reader (corpus transcripts)"
    page = render_grid_page([results])
    assert "no condition affects" in page
    assert "reader (corpus transcripts)" in page


def test_transcripts_cut_off_by_a_kill_are_recognised_again(tmp_path):
    calls = []

    def recognise(clips):
        calls.append(len(clips))
        return [f"text {len(clip)}" for clip in clips]

    path, clips = tmp_path / "folder" / "x.jsonl", [np.zeros(n, np.float32) for n in (1, 2, 3)]
    ConditionTranscripts(path, "key", recognise).texts(["a", "b", "c"], lambda: clips)
    path.write_bytes(path.read_bytes()[:-5])
    found = ConditionTranscripts(path, "key", recognise)
    assert found.texts(["c", "a", "b"], lambda: [clips[2], *clips[:2]]) == ["text 3", "text 1", "text 2"]
    assert calls == [3, 1]
    assert ConditionTranscripts(path, "key", recognise).texts(["a"], lambda: pytest.fail("kept")) == ["text 1"]
    ConditionTranscripts(path, "other", recognise).texts(["a"], lambda: clips[:1])
    assert calls == [3, 1, 1]
    assert found.word_error_rate(["a", "b"], ["text 1", ""]) == 0.0
    assert found.word_error_rate(["a"], [""]) is None
