"""Categories of a model against those of a corpus: the same emotions are found, different ones never put together."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from emojax.errors import ConfigError
from emojax.evaluation.categories import (
    SYNONYMS,
    match_categories,
    parse_category_map,
    same_categories,
)
from emojax.evaluation.summary import summarise
from emojax.reporting.report import write_report
from tests.evaluation_examples import corpus, predictions, write_workdir

MODEL = ("anger", "joy", "neutral", "contempt")


def test_spellings_of_one_emotion_are_matched_and_missing_categories_are_listed():
    match = match_categories(MODEL, ("Sad", "NEUTRAL", "happiness", "angry"))
    assert match.scored == ("NEUTRAL", "happiness", "angry")
    assert match.mapping == {"NEUTRAL": ["neutral"], "happiness": ["joy"], "angry": ["anger"]}
    assert (match.only_in_corpus, match.only_in_model) == (["Sad"], ["contempt"])
    for text in ("happiness = joy", "only in the corpus: Sad", "only in the model: contempt"):
        assert text in str(match)


def test_equal_names_say_nothing_and_keep_their_numbers():
    match = match_categories(MODEL, MODEL)
    assert str(match) == ""
    np.testing.assert_array_equal(match.corpus_labels(np.array([-1, 0, 3, 2])), [-1, 0, 3, 2])
    np.testing.assert_array_equal(match.model_labels(np.array([3, -1])), [3, -1])


@pytest.mark.parametrize(
    ("one", "other"),
    [("calm", "neutral"), ("excitement", "happiness"), ("anxiety", "fear"), ("frustration", "anger"), ("other", "")],
)
def test_different_emotions_are_never_put_together(one, other):
    assert same_categories([one], [other]) == {}


def test_every_word_belongs_to_one_emotion():
    words = [word for name, others in SYNONYMS.items() for word in (name, *others)]
    assert len(set(words)) == len(words)


def test_the_documented_table_is_the_one_in_use():
    lines = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text().splitlines()
    rows = [f"| {name} | {', '.join(others)} |" for name, others in SYNONYMS.items()]
    assert [line for line in lines if line in rows] == rows


def test_categories_that_one_side_distinguishes_are_only_merged_by_a_map():
    match = match_categories(MODEL, ("happy", "joyful", "anger", "neutral"))
    assert match.only_in_corpus == ["happy", "joyful"]
    match = match_categories(MODEL, ("happy", "joyful", "anger", "neutral"), [("happy", "joy"), ("joyful", "joy")])
    assert match.scored == ("happy+joyful", "anger", "neutral")
    np.testing.assert_array_equal(match.corpus_labels(np.array([0, 1, 2, 3, -1])), [0, 0, 1, 2, -1])
    exact = match_categories(("happiness", "joy"), ("joy", "happiness"))
    assert exact.mapping == {"joy": ["joy"], "happiness": ["happiness"]}


def test_probabilities_of_the_models_categories_are_added_and_the_rest_is_divided():
    model = ("anger", "excitement", "happiness", "neutral", "contempt")
    match = match_categories(model, ("neutral", "happy"), [("happy", "happiness"), ("happy", "excitement")])
    logits = np.random.default_rng(0).normal(size=(7, 5))
    used = scipy.special.softmax(logits[:, match.used], axis=1)
    found = match.probabilities(used)
    whole = scipy.special.softmax(logits, axis=1)
    expected = np.stack([whole[:, 3], whole[:, 1] + whole[:, 2]], axis=1)
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(match.model_labels(np.arange(5)), [-1, 1, 1, 0, -1])


def test_a_category_can_be_skipped():
    match = match_categories(MODEL, ("anger", "joy", "neutral"), parse_category_map(["neutral:", "anger : anger"]))
    assert match.scored == ("anger", "joy")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["happy"], "--category_map must be THEIRS:OURS,... .*, got 'happy'"),
        (["happy:joy"], r"must name categories of the corpus \(anger, sad.*\), got 'happy'"),
        (["sad:gloom"], r"must name categories of the model \(anger, joy, neutral, contempt\), got 'gloom'"),
        (["sad:joy", "sad:neutral", "anger:joy"], "groups of categories must not overlap, got 'anger' in two"),
    ],
)
def test_a_wrong_map_is_an_error_of_one_line(texts, message):
    with pytest.raises(ConfigError, match=message):
        match_categories(MODEL, ("anger", "sad"), parse_category_map(texts))


@given(
    names=st.lists(st.sampled_from([word for name, others in SYNONYMS.items() for word in (name, *others)])),
    others=st.lists(st.sampled_from([*SYNONYMS, "Happy", "JOY", "x-y", "x y"]), unique=True),
)
def test_matches_are_one_to_one_and_the_same_from_either_side(names, others):
    names = list(dict.fromkeys(names))
    found = same_categories(names, others)
    assert len(set(found.values())) == len(found)
    assert same_categories(others, names) == {theirs: ours for ours, theirs in found.items()}


def matched(info, match, skipped):
    return dataclasses.replace(predictions(info=info), match=match, num_unscored=skipped)


def test_summary_and_report_have_the_mapping_and_the_skipped_utterances(tmp_path, capsys):
    match = match_categories(MODEL, ("angry", "happiness", "neutral", "boredom"))
    info = corpus(categories=match.scored)
    summary = json.loads(json.dumps(summarise(matched(info, match, 12), None, 20), allow_nan=False))
    assert summary["category_match"] == {
        "mapping": {"angry": ["anger"], "happiness": ["joy"], "neutral": ["neutral"]},
        "only_in_corpus": ["boredom"],
        "only_in_model": ["contempt"],
        "skipped": 12,
    }
    assert summary["categories"] == ["angry", "happiness", "neutral"]
    first, second = (write_workdir(tmp_path / name, evaluated=name == "own") for name in ("own", "other"))
    (second / "evaluation").mkdir()
    (second / "evaluation" / "test.json").write_text(json.dumps(summary))
    write_report([first, second], None, False, "table", sys.stdout, sys.stderr)
    text = " ".join(capsys.readouterr().out.split())
    assert "NOT the same categories" in text
    assert "angry = anger, happiness = joy (corpus = model)" in text
    assert "12 utterances skipped" in text
