"""Labels that can train nothing, or rank no checkpoint, stop a run before any work."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from configs import default
from emojax.config import parse_experiment
from emojax.data import Corpus, SplitIndex, has_votes, open_corpus, read_index
from emojax.errors import ConfigError, CorpusError
from emojax.training import train_workdir
from emojax.training.labels import check_labels
from tests import mini_corpus
from tests.evaluation_examples import corpus as corpus_info

CORPUS = Corpus(corpus_info(), Path("toy"), {"train": 30, "dev": 30}, None, ())


def config(teacher=False, **changes):
    tree = default.get_config()
    tree.corpus.update({"name": "toy", "train_split": "train", "validation_split": "dev", "test_splits": ("test",)})
    if teacher:
        tree.teacher.workdir = "somewhere"
    for name, value in changes.items():
        group, _, field = name.partition("__")
        tree[group][field] = value
    return parse_experiment(tree.to_dict())


def index(n=30, seed=0, emotion=None, **values):
    """Labels drawn at random; those of an attribute that is named are all one value."""
    random = np.random.default_rng(seed)
    attributes = random.uniform(1, 7, (n, 3)).astype(np.float32)
    for column, name in enumerate(("activation", "valence", "dominance")):
        if name in values:
            attributes[:, column] = values[name]
    text = np.full(n, "")
    emotions = random.integers(0, 3, n) if emotion is None else np.full(n, emotion)
    return SplitIndex(
        np.arange(n).astype(str), text, text, np.full(n, 16000), attributes, emotions.astype(np.int32), {}
    )


UNRATED = dict.fromkeys(("activation", "valence", "dominance"), np.nan)
CATEGORIES = {"objective__emotion_weight": 1.0}


def check(settings, training=None, validation=None):
    check_labels(settings, CORPUS, training or index(), validation or index(seed=1))


def test_ordinary_labels_pass():
    check(config())
    check(config(**CATEGORIES), index(**UNRATED), index(**UNRATED))
    check(config(), index(dominance=np.nan))
    check(config(objective__attribute_weights=(0.5, 0.5, 0.0)), index(dominance=3.0))
    check(config(data__batch_size=1, **CATEGORIES), index(**UNRATED), index(**UNRATED))
    check(config(data__batch_size=1, objective__attribute_loss="mse"), index(), index())


@pytest.mark.parametrize(
    ("changes", "training", "error", "message"),
    [
        ({"data__batch_size": 1}, index(), ConfigError, r"data\.batch_size must leave >= 2 labelled .* got 1"),
        ({}, index(1), ConfigError, r"activation must have weight 0.*one label"),
        ({}, index(valence=4.0), ConfigError, r"objective\.attribute_weights: valence must have weight 0"),
        ({}, index(**UNRATED), CorpusError, "'train' has no label that the objective uses"),
        (CATEGORIES, index(emotion=2), ConfigError, r"emotion_weight must be 0, got 1\.0: every label .* is 'sadness'"),
    ],
)
def test_labels_that_train_nothing_are_refused(changes, training, error, message):
    with pytest.raises(error, match=message):
        check(config(**changes), training)


@pytest.mark.parametrize(
    ("changes", "validation", "message"),
    [
        ({}, index(1), "split 'dev' cannot rank checkpoints"),
        ({}, index(activation=1.0, valence=2.0, dominance=np.nan), "split 'dev' cannot rank checkpoints"),
        ({}, index(**UNRATED), "'dev' has no label that the objective uses"),
        ({**CATEGORIES, "evaluation__score": "uar"}, index(emotion=1), r"evaluation\.score must be 'auto', got 'uar'"),
        (
            {"objective__attribute_weights": (1.0, 0.0, 0.0)},
            index(activation=np.nan),
            "'dev' has no label that the objective uses",
        ),
    ],
)
def test_a_validation_split_that_ranks_nothing_is_refused(changes, validation, message):
    with pytest.raises((ConfigError, CorpusError), match=message):
        check(config(**changes), None, validation)


def test_attributes_that_are_trained_and_validated_must_be_the_same():
    with pytest.raises(CorpusError, match="split 'dev' cannot rank checkpoints"):
        check(config(), index(valence=np.nan, dominance=np.nan), index(activation=np.nan))


def test_a_teacher_needs_two_utterances_to_compare_but_no_labels():
    taught = {"teacher": True, "distillation__label_weight": 0.0, "distillation__attribute_weight": 1.0}
    check(config(**taught), index(**UNRATED))
    with pytest.raises(ConfigError, match=r"data\.batch_size must be >= 2 with distillation\.attribute_weight"):
        check(config(data__batch_size=1, **taught))
    embedded = {"teacher": True, "distillation__embedding_weight": 1.0, "data__batch_size": 1}
    with pytest.raises(ConfigError, match=r"must be >= 2 with distillation\.embedding_loss 'mse'"):
        check(config(**embedded))
    by_categories = {"teacher": True, "distillation__label_weight": 0.0, "distillation__emotion_weight": 1.0}
    check(config(evaluation__score="uar", **by_categories), index(**UNRATED, emotion=-1))


def test_votes_that_are_all_missing_are_refused(mini_data_dir, tmp_path):
    assert not has_votes(open_corpus("mini_corpus", mini_data_dir), "train")
    settings = config(
        corpus__name="mini_corpus",
        corpus__data_dir=str(mini_data_dir),
        objective__emotion_target="votes",
        **CATEGORIES,
    )
    with pytest.raises(ConfigError, match=r"emotion_target must be 'consensus', got 'votes': no utterance"):
        train_workdir(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class VotedCorpus(mini_corpus.MiniCorpus):
    """The last utterance alone has votes, all for the first category."""

    name = "voted_corpus"

    def _generate_examples(self, split):
        for number, example in super()._generate_examples(split):
            voted = number == self.sizes[split] - 1
            yield number, example | ({"emotion_votes": np.eye(3, dtype=np.float32)[0]} if voted else {})


def test_votes_are_found_wherever_they_are_and_only_for_chosen_categories(tmp_path):
    VotedCorpus(data_dir=str(tmp_path), sizes={"train": 5}).download_and_prepare()
    whole = open_corpus("voted_corpus", tmp_path)
    assert has_votes(whole, "train")
    info = dataclasses.replace(whole.info, categories=whole.info.categories[1:])
    assert not has_votes(dataclasses.replace(whole, info=info, category_indices=(1, 2)), "train")


def test_a_training_split_of_one_clip_is_refused_before_anything_is_written(tmp_path):
    mini_corpus.build(tmp_path / "data", sizes={"train": 1, "dev": 4, "test": 2})
    settings = config(corpus__name="mini_corpus", corpus__data_dir=str(tmp_path / "data"))
    assert len(read_index(open_corpus("mini_corpus", tmp_path / "data"), "train")) == 1
    with pytest.raises(ConfigError, match="activation must have weight 0"):
        train_workdir(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
