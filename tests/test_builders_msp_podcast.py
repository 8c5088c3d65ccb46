"""MSP-Podcast, built by the command from miniatures of every release."""

import collections
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emojax.data import open_corpus, open_split
from emojax.errors import CorpusError
from tests.mini_msp_podcast import DIALECTS, WORDS, write_release, write_tone
from tfds_builders.__main__ import main
from tfds_builders.msp_podcast.labels import CATEGORIES, read_consensus, read_label_blocks
from tfds_builders.registry import ENTRIES

NAMES = {"A": "anger", "S": "sadness", "H": "happiness", "N": "neutral", "O": "other"}


def build(manual_dir, data_dir, release):
    return main(
        ["msp_podcast", f"--config={release}", f"--manual_dir={manual_dir}", f"--data_dir={data_dir}", "--processes=1"]
    )


def metadata(data_dir, release):
    import tensorflow_datasets as tfds

    return dict(tfds.builder_from_directory(data_dir / "msp_podcast" / release / "1.1.0").info.metadata)


def examples(data_dir, release):
    corpus = open_corpus(f"msp_podcast/{release}", data_dir)
    return corpus, {split: {e["id"].decode(): e for e in open_split(corpus, split)} for split in corpus.split_sizes}


@pytest.mark.parametrize("release", DIALECTS)
def test_releases_have_the_labels_of_the_files(release, tmp_path):
    folder = tmp_path / "MSP-PODCAST"
    rows = write_release(folder, release)
    assert build(folder, tmp_path, release) == 0
    corpus, found = examples(tmp_path, release)
    assert set(found) == set(DIALECTS[release].splits)
    assert corpus.info.scale == (1.0, 7.0)
    assert corpus.rating_bins == 7
    assert corpus.info.categories == CATEGORIES
    for number, row in enumerate(rows):
        example = found[row.split][Path(row.name).stem]
        np.testing.assert_allclose(example["attributes"], row.mean, rtol=1e-6)
        ratings = np.array([rating[1:] for rating in row.ratings])
        np.testing.assert_allclose(example["attributes_std"], ratings.std(axis=0, ddof=1), rtol=1e-5, atol=1e-6)
        counts = [np.bincount(column.astype(int), minlength=8)[1:] for column in ratings.T]
        np.testing.assert_array_equal(example["attributes_histogram"], counts)
        assert example["emotion"] == (-1 if row.code == "X" else CATEGORIES.index(NAMES[row.code]))
        shares = np.zeros(len(CATEGORIES))
        for rating in row.ratings:
            shares[CATEGORIES.index(NAMES[rating[0][0]])] += 1 / 3
        np.testing.assert_allclose(example["emotion_votes"], shares, atol=1e-6)
        assert example["speaker"].decode() == ("" if row.speaker == "Unknown" else row.speaker)
        assert example["gender"].decode() == ("" if row.gender == "Unknown" else row.gender.lower())
        words = {2: "café au lait", 3: "", 4: ""}.get(number, WORDS[row.code])
        assert example["transcript"].decode() == words
        assert 0.35 < example["duration"] < 1.05  # the file at 8 kHz too
    if "test3" in found:
        assert len(found["test3"]) == 3
        for example in found["test3"].values():
            assert np.isnan(example["attributes"]).all()
            assert not example["attributes_histogram"].any()
            assert example["emotion"] == -1
            assert example["transcript"].decode() == "who knows"
    counts = metadata(tmp_path, release)["counts"]
    assert counts["duplicate_rows"] == 1
    assert counts["without_audio"] == 1
    assert counts["audio_without_labels"] == 1
    assert counts["transcript_not_utf8"] == 1
    assert counts["no_transcript"] == 2
    assert counts["no_agreement"] == len({row.split for row in rows})
    assignment = corpus.split_assignment
    assert assignment is not None
    assert {assignment.train, assignment.validation, *assignment.test} <= set(found)


def test_difference_from_published_size_is_counted(tmp_path):
    write_release(tmp_path / "release", "v1_6")
    assert build(tmp_path, tmp_path, "v1_6") == 0  # the parent of the release folder
    counts = metadata(tmp_path, "v1_6")["counts"]
    assert counts["train_fewer_than_published"] == 34_280 - 6
    assert counts["test1_fewer_than_published"] == 10_124 - 6


def test_automatic_transcripts_fill_gaps_and_are_counted(tmp_path):
    rows = write_release(tmp_path / "release", "v1_10")
    folder = tmp_path / "release" / "Transcripts_ASR"
    folder.mkdir()
    for row in rows:
        (folder / f"{Path(row.name).stem}.txt").write_text("heard by a machine")
    assert build(tmp_path / "release", tmp_path, "v1_10") == 0
    _, found = examples(tmp_path, "v1_10")
    missing = rows[4]
    assert found[missing.split][Path(missing.name).stem]["transcript"].decode() == "heard by a machine"
    counts = metadata(tmp_path, "v1_10")["counts"]
    assert counts["transcript_asr"] == 1
    assert counts["transcript_human"] == len(rows) - 2


def test_corrupt_clip_is_skipped_and_many_raise(tmp_path, capsys):
    rows = write_release(tmp_path / "release", "v1_11")
    (tmp_path / "release" / "Audios" / rows[1].name).write_bytes(b"RIFF....no audio")
    assert build(tmp_path / "release", tmp_path, "v1_11") == 0
    assert rows[1].name in capsys.readouterr().err
    assert metadata(tmp_path, "v1_11")["counts"]["corrupt_audio"] == 1
    (tmp_path / "release" / "Audios" / rows[2].name).write_bytes(b"RIFF....no audio")
    assert build(tmp_path / "release", tmp_path / "other", "v1_11") == 1
    assert "2 of 6 items of split 'train' are damaged" in capsys.readouterr().err


def test_folder_without_release_raises_listing_its_content(tmp_path, capsys):
    (tmp_path / "copy" / "wavs").mkdir(parents=True)
    assert build(tmp_path / "copy", tmp_path, "v1_11") == 1
    message = capsys.readouterr().err
    assert "looked for a folder Audios (or Audio)" in message
    assert "found wavs/" in message
    write_tone_folder = tmp_path / "unlabelled" / "Audios"
    write_tone_folder.mkdir(parents=True)
    write_tone(write_tone_folder / "a.wav", [4, 4, 4], 0)
    assert build(tmp_path / "unlabelled", tmp_path, "v1_11") == 1
    assert "labels_consensus.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("EmoVal", "Valence", "has no column 'EmoVal'; its columns are FileName"),
        (",H,", ",Q,", "emotion must be A, S, H, U, F, D, C, N, O, X, got 'Q'"),
        ("Development", "Devel", "no utterance"),
        (",Train", "", "fields like the header"),
    ],
)
def test_invalid_label_table_raises_naming_column_or_line(old, new, message, tmp_path, capsys):
    write_release(tmp_path / "release", "v1_11")
    path = tmp_path / "release" / "Labels" / "labels_consensus.csv"
    path.write_text(path.read_text(encoding="utf-8-sig").replace(old, new))
    status = build(tmp_path / "release", tmp_path, "v1_11")
    if old == "Development":  # unknown split of this release: counted
        assert status == 0
        assert metadata(tmp_path, "v1_11")["counts"]["without_split"] == 6
    else:
        assert status == 1
        assert message in capsys.readouterr().err


def test_missing_values_and_headers_are_parsed_like_other_tables(tmp_path):
    path = tmp_path / "labels_consensus.csv"
    path.write_text(
        "filename, EMOCLASS ,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
        "a.wav,A,NA,2,<NA>,None,Female,Train\n"
        "b.wav,X,null,,NaN,Unknown,NA,Train\n"
    )
    found = read_consensus(path, collections.Counter())
    np.testing.assert_array_equal(found["a.wav"].attributes, [np.nan, 2, np.nan])
    np.testing.assert_array_equal(found["b.wav"].attributes, [np.nan] * 3)
    assert (found["a.wav"].speaker, found["a.wav"].gender, found["b.wav"].speaker) == ("", "female", "")
    path.write_text(path.read_text().replace("null", "inf"))
    with pytest.raises(CorpusError, match="line 3: 'inf' is not a finite number"):
        read_consensus(path, collections.Counter())


def test_unicode_line_separators_in_free_text_do_not_split_lines(tmp_path):
    (tmp_path / "labels.txt").write_bytes(
        "a.wav; A; A:4; V:3; D:2;\r\n"
        "W1; Other-so\u2028so\x85, \x0bquite; ; A:4; V:3; D:2;\r\n"
        "W2; Angry; ; A:2; V:3; D:NA;\r\n".encode()
    )
    consensus, raters = read_label_blocks(tmp_path / "labels.txt", collections.Counter())
    assert consensus["a.wav"].attributes == (4, 3, 2)
    assert raters["a.wav"].votes[CATEGORIES.index("other")] == 0.5
    assert np.isnan(raters["a.wav"].std[2])


def test_build_without_manual_dir_raises_instructions(tmp_path, capsys):
    assert main(["msp_podcast", f"--data_dir={tmp_path}"]) == 1
    message = capsys.readouterr().err
    assert "--manual_dir is missing" in message
    assert "Audios/" in message


def test_build_in_worker_processes_does_not_import_tensorflow(tmp_path):
    write_release(tmp_path / "release", "challenge")
    code = (
        "import sys\nfrom tfds_builders.__main__ import main\nstatus = main(sys.argv[1:])\n"
        "assert not any(name.split('.')[0] == 'tensorflow' for name in sys.modules)\nsys.exit(status)"
    )
    command = [sys.executable, "-c", code, "msp_podcast", "--config=challenge", "--processes=2"]
    command += [f"--manual_dir={tmp_path / 'release'}", f"--data_dir={tmp_path}"]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "test3" in done.stdout


def test_registry_lists_every_release():
    assert set(ENTRIES["msp_podcast"].configs) == set(DIALECTS)
