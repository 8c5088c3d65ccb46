"""IEMOCAP, built by the command from a miniature."""

import numpy as np
import pytest

from emojax.config import CorpusConfig
from emojax.data import open_corpus, open_split, read_index
from emojax.errors import ConfigError, CorpusError
from tests.mini_iemocap import WRITTEN, write_corpus
from tfds_builders.__main__ import main
from tfds_builders.iemocap.labels import CATEGORIES, read_evaluation
from tfds_builders.iemocap.turns import FOUR, SESSIONS

NAMES = dict(zip(WRITTEN, (*CATEGORIES, ""), strict=True))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("iemocap")
    return folder, write_corpus(folder / "IEMOCAP_full_release")


def build(folder, data_dir, config="all"):
    arguments = ["iemocap", f"--config={config}", f"--manual_dir={folder}", f"--data_dir={data_dir}", "--processes=1"]
    assert main(arguments) == 0
    opened = open_corpus(f"iemocap/{config}", data_dir)
    return opened, {split: {e["id"].decode(): e for e in open_split(opened, split)} for split in opened.split_sizes}


def counts(data_dir, config):
    import tensorflow_datasets as tfds

    return dict(tfds.builder_from_directory(data_dir / "iemocap" / config / "1.1.0").info.metadata)["counts"]


def test_utterances_have_the_labels_of_the_files(corpus, tmp_path):
    folder, turns = corpus
    opened, found = build(folder, tmp_path)
    assert tuple(found) == SESSIONS
    assert opened.info.scale == (1.0, 5.0)
    missing = turns[1].name
    for turn in turns:
        session = f"session{turn.name[4]}"
        if turn.name == missing:
            assert turn.name not in found[session]
            continue
        example = found[session][turn.name]
        valence, activation, dominance = turn.mean
        np.testing.assert_allclose(example["attributes"], [activation, valence, dominance], atol=1e-4)
        v, a, d = np.std(turn.ratings, axis=0, ddof=1)
        np.testing.assert_allclose(example["attributes_std"], [a, v, d], atol=1e-5)
        histogram = [np.bincount(np.array(turn.ratings)[:, column], minlength=6)[1:] for column in (1, 0, 2)]
        np.testing.assert_array_equal(example["attributes_histogram"], histogram)
        assert example["emotion"] == (-1 if turn.code == "xxx" else CATEGORIES.index(NAMES[turn.code]))
        votes = np.zeros(len(CATEGORIES))
        votes[CATEGORIES.index(NAMES[turn.code] or "neutral")] = 1
        if turn.name.endswith("F000"):
            votes[CATEGORIES.index("neutral")], votes[CATEGORIES.index("frustration")] = 0.75, 0.25
        np.testing.assert_allclose(example["emotion_votes"], votes, atol=1e-6)
        letter = turn.name.rpartition("_")[2][0]
        assert example["speaker"].decode() == f"{turn.name[:5]}{letter}"
        assert example["gender"].decode() == {"F": "female", "M": "male"}[letter]
        assert example["transcript"].decode() == turn.words.replace("turn 3", "turn 3 café")
    counted = counts(tmp_path, "all")
    assert counted["without_audio"] == 1
    assert counted["no_agreement"] == 10
    assert counted["all_fewer_than_published"] == 10_039 - 109


def test_four_classes_merge_excitement_and_skip_others(corpus, tmp_path):
    folder, turns = corpus
    opened, found = build(folder, tmp_path, "four")
    assert opened.info.categories == FOUR
    wanted = {"neu": "neutral", "hap": "happiness", "exc": "happiness", "sad": "sadness", "ang": "anger"}
    names = {name: FOUR[example["emotion"]] for split in found.values() for name, example in split.items()}
    assert names == {turn.name: wanted[turn.code] for turn in turns if turn.code in wanted and turn != turns[1]}
    first = found["session1"]["Ses01F_impro01_F000"]
    np.testing.assert_allclose(first["emotion_votes"], [0, 0, 0, 1])
    counted = counts(tmp_path, "four")
    assert counted["session2_fewer_than_published"] == 1_023 - 10
    assert counted["skipped_other_category"] == 60


def test_improvised_config_skips_scripted_conversations(corpus, tmp_path):
    folder, _ = corpus
    _, found = build(folder, tmp_path, "four_improvised")
    assert all("impro" in name for split in found.values() for name in split)
    assert sum(map(len, found.values())) == 24


def test_folds_have_one_test_one_validation_and_three_training_sessions(corpus, tmp_path):
    folder, _ = corpus
    opened, found = build(folder, tmp_path)
    empty = CorpusConfig(name="iemocap/all")
    tested = set()
    for fold in range(1, 6):
        chosen = CorpusConfig(name="iemocap/all", fold=fold).with_splits(opened.split_assignment, opened.folds)
        sessions = [*chosen.train_split.split("+"), chosen.validation_split, *chosen.test_splits]
        assert sorted(sessions) == sorted(SESSIONS)
        tested.update(chosen.test_splits)
        index = read_index(opened, chosen.train_split)
        assert len(index.ids) == sum(len(found[session]) for session in chosen.train_split.split("+"))
    assert tested == set(SESSIONS)
    assert empty.with_splits(opened.split_assignment, opened.folds).test_splits == ("session5",)
    with pytest.raises(ConfigError, match=r"corpus\.fold must be <= 5"):
        CorpusConfig(name="iemocap/all", fold=6).with_splits(opened.split_assignment, opened.folds)
    with pytest.raises(ConfigError, match="must not overlap the validation and test splits, got 'session1'"):
        CorpusConfig(
            name="iemocap/all",
            train_split="session1+session2",
            validation_split="session3",
            test_splits=("session1",),
        )


def test_wrong_folder_and_damaged_line_raise(corpus, tmp_path, capsys):
    (tmp_path / "wrong" / "audio").mkdir(parents=True)
    arguments = [f"--data_dir={tmp_path}", "--processes=1"]
    assert main(["iemocap", f"--manual_dir={tmp_path / 'wrong'}", *arguments]) == 1
    message = capsys.readouterr().err
    assert "looked for folders Session1 to Session5" in message
    assert "found audio/" in message
    write_corpus(tmp_path / "copy")
    path = tmp_path / "copy" / "Session3" / "dialog" / "EmoEvaluation" / "Ses03F_impro01.txt"
    path.write_text(path.read_text().replace("\tneu\t", "\tzzz\t"))
    assert main(["iemocap", f"--manual_dir={tmp_path / 'copy'}", *arguments]) == 1
    message = capsys.readouterr().err
    assert "Ses03F_impro01.txt, line 3: emotion must be neu" in message


def test_head_line_without_three_ratings_raises(tmp_path):
    path = tmp_path / "Ses01F_impro01.txt"
    head = "[6.29 - 8.23]\tSes01F_impro01_F000\tneu\t[%s]\n"
    path.write_text(head % "2.5000, NaN, 2.5000")
    ((_, _, attributes),) = [(turn.name, turn.emotion, turn.attributes) for turn in read_evaluation(path)]
    np.testing.assert_array_equal(attributes, [np.nan, 2.5, 2.5])
    for vector, message in (("2,5, 3.0, 2.0", "must have three ratings"), ("2.5, x, 2.5", "is not a finite number")):
        path.write_text("% head\n" + head % vector)
        with pytest.raises(CorpusError, match=message) as caught:
            list(read_evaluation(path))
        assert "Ses01F_impro01.txt, line 2: " in str(caught.value)
