"""Detection of changes in the source files of a built corpus."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emojax.data import open_corpus, open_split
from emojax.errors import CorpusError
from tests.mini_iemocap import write_corpus
from tests.mini_msp_podcast import write_release
from tfds_builders import sources as sources_module
from tfds_builders.__main__ import main
from tfds_builders.folder import folder_dataset_builder
from tfds_builders.sources import changed_sources, stamp_files, write_sources

ROWS = "path,valence,split\na.wav,0.1,train\nb.wav,0.2,train\nc.wav,0.3,train\ngone.wav,0.4,train\n"


@pytest.fixture
def folder(tmp_path, capsys):
    """A folder of three clips, and its corpus, built."""
    made = tmp_path / "mine"
    made.mkdir()
    for number, name in enumerate("abc"):
        write_noise(made / f"{name}.wav", number)
    (made / "table.csv").write_text(ROWS)
    (made / "corpus.json").write_text('{"name": "mine"}')
    assert build(made) == 0
    capsys.readouterr()
    return made


def write_noise(path, seed, samples=1_600):
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, samples), 16_000)


def build(folder, *arguments):
    return main(
        ["folder", f"--manual_dir={folder}", f"--data_dir={folder.parent / 'data'}", "--processes=1", *arguments]
    )


def test_unchanged_files_are_not_read_or_rebuilt(folder, capsys, monkeypatch):
    monkeypatch.setattr(sources_module, "_digest", lambda path: pytest.fail(f"{path} is read"))
    assert build(folder) == 0
    output = capsys.readouterr().out
    assert "already built (train 3)" in output
    assert "not compared" not in output


def test_files_with_other_dates_and_equal_content_are_unchanged(folder, capsys):
    for path in folder.iterdir():
        os.utime(path, ns=(1, 1))
    shutil.copytree(folder, folder.parent / "copy")
    assert build(folder) == 0
    assert build(folder.parent / "copy") == 0
    assert capsys.readouterr().out.count("already built (train 3)") == 2


def change_table(folder):
    (folder / "table.csv").write_text(ROWS.replace("0.2", "0.9"))


def change_description(folder):
    (folder / "corpus.json").write_text('{"name": "mine", "scale": [0, 2]}')


def change_audio(folder):
    for number, name in enumerate("abc"):
        write_noise(folder / f"{name}.wav", 100 + number)


def shorten_audio(folder):
    write_noise(folder / "b.wav", 1, samples=800)


def remove_audio(folder):
    (folder / "b.wav").unlink()


def add_audio(folder):
    write_noise(folder / "gone.wav", 3)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (change_table, "changed: table.csv"),
        (change_description, "changed: corpus.json"),
        (change_audio, "changed: a.wav, b.wav, c.wav"),
        (shorten_audio, "changed: b.wav"),
        (remove_audio, "missing: b.wav"),
        (add_audio, "new: gone.wav"),
    ],
)
def test_changed_files_raise_with_rebuild_hint(change, what, folder, capsys):
    change(folder)
    assert build(folder) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"tfds_builders: folder/mine/1.1.0: already built in {folder.parent / 'data'}" in message
    assert f"have changed since ({what}); add --overwrite to build it again" in message
    assert build(folder, "--overwrite") == 0
    assert build(folder) == 0
    assert "already built" in capsys.readouterr().out


def test_overwrite_uses_changed_files(folder):
    change_table(folder)
    assert build(folder, "--overwrite") == 0
    corpus = open_corpus("folder/mine", folder.parent / "data")
    valence = {example["id"]: float(example["attributes"][1]) for example in open_split(corpus, "train")}
    assert valence[b"b.wav"] == pytest.approx(0.9)


def test_many_changes_are_counted():
    names = [f"{number}.wav" for number in range(1_000)]
    assert sources_module._format_list(names) == "0.wav, 1.wav, 2.wav and 997 more files"


def test_file_changed_during_the_build_raises(folder, monkeypatch, capsys):
    make_utterance = folder_dataset_builder.make_utterance

    def change_meanwhile(clip):
        write_noise(folder / "a.wav", 7, samples=900)
        return make_utterance(clip)

    monkeypatch.setattr(folder_dataset_builder, "make_utterance", change_meanwhile)
    assert build(folder, "--overwrite") == 1
    assert "a.wav: changed while the corpus was being built; build it again" in capsys.readouterr().err
    assert sorted(path.name for path in (folder.parent / "data").iterdir()) == ["folder"]


@pytest.mark.parametrize("content", [None, "", "[1]", '{"files": [1]}', '{"files": {"a.wav": [1]}}', '{"files": null}'])
def test_corpus_without_valid_digests_is_reported_as_not_compared(content, folder, capsys):
    (path,) = (folder.parent / "data").glob("**/sources.json")
    path.unlink() if content is None else path.write_text(content)
    assert build(folder) == 0
    assert "(not compared with your copy: it has no digests of its files)" in capsys.readouterr().out


def test_external_and_unreadable_files_are_stamped(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "elsewhere.wav").write_bytes(b"1")
    stamps = stamp_files(root, [root / "a\0", tmp_path / "elsewhere.wav", root, root / "absent"])
    assert set(stamps) == {"a\0", str(tmp_path / "elsewhere.wav"), ".", "absent"}
    assert [stamp is None for stamp in stamps.values()] == [True, False, True, True]
    write_sources(tmp_path, root, stamps, 1)
    assert changed_sources(tmp_path, root, 1) == ""
    (tmp_path / "elsewhere.wav").write_bytes(b"2")
    os.utime(tmp_path / "elsewhere.wav", ns=(1, 1))
    assert changed_sources(tmp_path, root, 1) == f"changed: {tmp_path / 'elsewhere.wav'}"
    with pytest.raises(CorpusError, match=r"elsewhere\.wav: changed while"):
        write_sources(tmp_path, root, stamps, 1)


def test_msp_podcast_compares_labels_audio_and_transcripts(tmp_path, capsys):
    release = tmp_path / "release"
    rows = write_release(release, "v1_11", per_split=2)
    command = ["msp_podcast", f"--data_dir={tmp_path}", "--processes=1"]
    compared = [*command, f"--manual_dir={release}"]
    assert main(compared) == 0
    assert main(compared) == 0
    assert main(command) == 0
    output = capsys.readouterr().out
    assert output.endswith("(not compared with your copy: no --manual_dir)\n")
    assert output.count("already built") == 2
    labels = release / "Labels" / "labels_consensus.csv"
    labels.write_text(labels.read_text().replace(",A,", ",S,").replace(",H,", ",S,"))
    write_noise(release / "Audios" / rows[0].name, 1)
    words = release / "Transcripts" / f"{Path(rows[1].name).stem}.txt"
    words.write_text("other words")
    (release / "Labels" / "labels.txt").write_text("")
    assert main(compared) == 1
    message = capsys.readouterr().err
    for name in ("changed: ", f"Audios/{rows[0].name}", f"Transcripts/{words.name}", "new: Labels/labels.txt"):
        assert name in message


def test_iemocap_compares_labels_audio_and_transcripts(tmp_path, capsys):
    write_corpus(tmp_path / "copy")
    command = ["iemocap", "--config=four", f"--manual_dir={tmp_path / 'copy'}", f"--data_dir={tmp_path}"]
    assert main([*command, "--processes=1"]) == 0
    (stored,) = tmp_path.glob("iemocap/**/sources.json")
    names = set(json.loads(stored.read_text())["files"])
    assert "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt" in names
    assert "Session1/dialog/transcriptions/Ses01F_impro01.txt" in names
    labels = tmp_path / "copy" / "Session2" / "dialog" / "EmoEvaluation" / "Ses02F_impro01.txt"
    labels.write_text(labels.read_text().replace("\tneu\t", "\tang\t"))
    assert main(command) == 1
    assert f"changed: {labels.relative_to(tmp_path / 'copy')})" in capsys.readouterr().err
