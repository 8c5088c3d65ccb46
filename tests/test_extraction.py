"""Extracted states are what the encoder gives for each utterance alone, whatever was interrupted in between."""

import dataclasses
import os
import signal
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from configs import extract, extract_teacher
from emojax.bucketing import padded_batches, row_counts
from emojax.data import open_corpus, open_split
from emojax.encoders import load_encoder
from emojax.encoders.waveform_inputs import WaveformInputs
from emojax.errors import CheckpointError, ConfigError, CorpusError
from emojax.extraction import extract_store, filling, parse_extraction, run, shards
from emojax.feature_store import Store
from tests import mini_corpus, speech_checkpoints
from tests.test_workdir_integrity import make_workdir

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hubert(checkpoints):
    return checkpoints["acoustic"]


@pytest.fixture(scope="module")
def bert(checkpoints):
    return checkpoints["lexical"]


def config(data_dir, checkpoint, splits=("test",), **changes):
    tree = {
        "corpus": {"name": "mini_corpus", "data_dir": str(data_dir), "splits": splits},
        "encoder": extract.get_config().encoder.to_dict()
        | {"checkpoint": str(checkpoint), "max_tokens": 6, "batch_seconds": 8.0, "batch_tokens": 64},
        "states": {"layers": (-1,), "combine": "stack", "pooling": "none", "dtype": "float32"},
    }
    for key, value in changes.items():
        group = next(group for group in ("encoder", "states") if key in tree[group])
        tree[group][key] = value
    return parse_extraction(tree)


def examples(data_dir, split="test"):
    return list(open_split(open_corpus("mini_corpus", data_dir), split))


def test_frames_of_several_layers_are_those_of_each_utterance_alone(mini_data_dir, hubert, tmp_path):
    outcome = extract_store(config(mini_data_dir, hubert, layers=(0, 1, -1)), tmp_path / "store")
    split = Store(tmp_path / "store").split("test")
    encoder = load_encoder(hubert)
    clips = [example["audio"].astype(np.float32) / 2**15 for example in examples(mini_data_dir)]
    expected = encoder.encode(clips, hidden_states=True)
    last = encoder.encode(clips)
    for number, example in enumerate(examples(mini_data_dir)):
        found = split.by_id(str(np.char.decode(example["id"])))["states"]
        assert found.shape == (len(last[number]), 3, 32)
        np.testing.assert_allclose(found[:, :2].swapaxes(0, 1), expected[number][:2], atol=1e-5)
        np.testing.assert_allclose(found[:, 2], last[number], atol=1e-5)
    assert outcome.utterances == mini_corpus.SIZES["test"]
    assert outcome.audio_hours == pytest.approx(sum(len(clip) for clip in clips) / 16_000 / 3600)
    assert outcome.audio_hours_per_hour > 0


@pytest.mark.usefixtures("one_shape")
def test_pooled_means_of_layers_take_one_row(mini_data_dir, hubert, tmp_path):
    extract_store(config(mini_data_dir, hubert, layers=(0, 1)), tmp_path / "frames")
    pooled = config(mini_data_dir, hubert, layers=(0, 1), combine="mean", pooling="statistics")
    pooled = dataclasses.replace(pooled, states=dataclasses.replace(pooled.states, dtype="float16"))
    extract_store(pooled, tmp_path / "pooled")
    frames, rows = Store(tmp_path / "frames").split("test"), Store(tmp_path / "pooled").split("test")
    for number in range(len(rows)):
        states = frames[number]["states"].mean(axis=1)
        expected = np.concatenate([states.mean(axis=0), states.std(axis=0)])
        found = rows[number]["states"]
        assert found.shape == (1, 1, 64)
        assert found.dtype == np.float16
        np.testing.assert_allclose(found[0, 0], expected, atol=2e-3)


def test_tokens_are_cut_as_in_training_and_empty_transcripts_have_none(mini_data_dir, bert, tmp_path):
    outcome = extract_store(config(mini_data_dir, bert, max_tokens=4), tmp_path / "store")
    split = Store(tmp_path / "store").split("test")
    encoder = load_encoder(bert)
    tokenizer = encoder.inputs.tokenizer
    texts = [example["transcript"].decode() for example in examples(mini_data_dir)]
    for number, text in enumerate(texts):
        found = split[number]["states"]
        if not text:
            assert found.shape == (0, 1, 32)
            continue
        ids = np.array([tokenizer(text, truncation=True, max_length=4)["input_ids"]], np.int32)
        output = encoder.module.apply({"params": encoder.params}, jnp.array(ids), jnp.array([ids.shape[1]]))
        np.testing.assert_allclose(found[:, 0], output.last_hidden_state[0], atol=1e-5)
    assert outcome.empty == sum(not text for text in texts) > 0
    assert outcome.cut == sum(bool(text) for text in texts) > 0


@pytest.mark.usefixtures("one_shape")
def test_a_killed_run_continues_without_redoing_finished_shards(mini_data_dir, hubert, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_SHARD_UTTERANCES", 5)
    job = config(mini_data_dir, hubert, splits=())
    extract_store(job, tmp_path / "whole")
    write, written = run.write_shard, []

    def failing(directory, metadata, shard, *rest):
        if len(written) == 4:
            (directory / f".{metadata.shard_name(shard)}.1.tmp").write_bytes(b"part")
            raise MemoryError
        written.append((directory.name, shard))
        return write(directory, metadata, shard, *rest)

    monkeypatch.setattr(run, "write_shard", failing)
    with pytest.raises(MemoryError):
        extract_store(job, tmp_path / "store")
    with pytest.raises(CheckpointError, match="shards are missing"):
        Store(tmp_path / "store").split("train")

    monkeypatch.setattr(
        run,
        "write_shard",
        lambda directory, metadata, shard, *rest: (
            written.append((directory.name, shard)),
            write(directory, metadata, shard, *rest),
        )[1],
    )
    rest = extract_store(job, tmp_path / "store")
    assert len(written) == len(set(written)) == 8 + 3 + 2
    assert rest.utterances == sum(mini_corpus.SIZES.values()) - 20
    assert extract_store(job, tmp_path / "store").utterances == 0
    one, other = ({p.relative_to(s): p.read_bytes() for p in s.rglob("*") if p.is_file() and p.name != "summary.json"}
                  for s in (tmp_path / "whole", tmp_path / "store"))  # fmt: skip
    assert one.keys() == other.keys()
    assert one == other


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("teachers") / "tiny")


def teacher_config(data_dir, workdir):
    tree = extract_teacher.get_config()
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir), "splits": ("train",)})
    tree.teacher.update({"workdir": f"{workdir},{workdir}", "weights": (3.0, 1.0)})
    tree.data.update({"batch_size": 8, "bucket_seconds": (2.5,)})
    return parse_extraction(tree.to_dict())


def outputs(store):
    return np.stack([arrays["outputs"] for arrays in Store(store).split("train").__getitems__(range(37))])


def test_an_interrupted_extraction_of_a_teacher_continues_and_its_shards_equal_one(
    mini_data_dir, teacher, tmp_path, monkeypatch
):
    job = teacher_config(mini_data_dir, teacher)
    whole = extract_store(job, tmp_path / "whole")
    assert (whole.utterances, whole.short, whole.empty) == (37, 0, 0)
    assert whole.audio_hours > 0
    monkeypatch.setattr(shards, "_SHARD_UTTERANCES", 10)
    write, written = run.write_shard, []

    def interrupted(directory, metadata, shard, *rest):
        written.append(shard)
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return write(directory, metadata, shard, *rest)

    monkeypatch.setattr(run, "write_shard", interrupted)
    first = extract_store(job, tmp_path / "store")
    assert (first.utterances, first.interrupted_by) == (20, signal.SIGTERM)
    with pytest.raises(CheckpointError, match="2 of 4 shards are missing"):
        Store(tmp_path / "store").split("train")
    rest = extract_store(job, tmp_path / "store")
    assert (rest.utterances, rest.interrupted_by, written) == (17, None, [0, 1, 2, 3])
    np.testing.assert_allclose(outputs(tmp_path / "store"), outputs(tmp_path / "whole"), rtol=1e-5, atol=1e-6)


def test_processes_write_shards_of_their_own(mini_data_dir, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_SHARD_UTTERANCES", 10)
    job = teacher_config(mini_data_dir, teacher)
    monkeypatch.setattr(filling, "own_shards", lambda count: range(0, count, 2))
    assert extract_store(job, tmp_path / "store").utterances == 20  # shards 0 and 2 of 10, 10, 10 and 7
    monkeypatch.setattr(filling, "own_shards", lambda count: range(1, count, 2))
    assert extract_store(job, tmp_path / "store").utterances == 17
    assert outputs(tmp_path / "store").any(axis=(1, 2)).all()


def test_utterances_too_short_for_a_teacher_are_counted_and_stored_as_zeros(
    mini_data_dir, teacher, tmp_path, monkeypatch
):
    monkeypatch.setattr("emojax.models.EmotionModel.min_samples", 20_000)
    outcome = extract_store(teacher_config(mini_data_dir, teacher), tmp_path / "store")
    short = [len(example["audio"]) < 20_000 for example in examples(mini_data_dir, "train")]
    assert (outcome.utterances, outcome.short) == (37, sum(short))
    assert (~outputs(tmp_path / "store").any(axis=(1, 2))).tolist() == short


@pytest.mark.usefixtures("one_shape")
def test_another_checkpoint_or_setting_is_refused(mini_data_dir, hubert, tmp_path):
    extract_store(config(mini_data_dir, hubert), tmp_path / "store")
    with pytest.raises(CheckpointError, match=r"was made with layers \[2\], not \[1\]"):
        extract_store(config(mini_data_dir, hubert, layers=(1,)), tmp_path / "store")
    other = speech_checkpoints.write_checkpoint(
        tmp_path / "other",
        speech_checkpoints.make_model(
            "Hubert", seed=1, **speech_checkpoints.LARGE, **speech_checkpoints.FRAMES_OF_20_MS
        ),
        normalize=True,
    )
    with pytest.raises(CheckpointError, match="was made with checkpoint"):
        extract_store(config(mini_data_dir, other), tmp_path / "store")


@pytest.mark.usefixtures("one_shape")
def test_another_corpus_version_is_refused(hubert, tmp_path):
    mini_corpus.build(tmp_path, sizes={"test": 3})
    extract_store(config(tmp_path, hubert), tmp_path / "store")
    mini_corpus.build(tmp_path / "second", sizes={"test": 4})
    with pytest.raises(CheckpointError, match=r"other utterances, audio than the corpus has now; delete .* again"):
        extract_store(config(tmp_path / "second", hubert), tmp_path / "store")


def test_wrong_settings_are_named(mini_data_dir, hubert, tmp_path):
    with pytest.raises(ConfigError, match=r"config.states.layers must be layer numbers, -3 to 2, got 3"):
        extract_store(config(mini_data_dir, hubert, layers=(3,)), tmp_path / "store")
    with pytest.raises(ConfigError, match=r"config.states.pooling must"):
        config(mini_data_dir, hubert, pooling="max")
    with pytest.raises(ConfigError, match=r"config.encoder.checkpoint must"):
        config(mini_data_dir, "")
    with pytest.raises(CorpusError, match="no split 'tset'"):
        extract_store(config(mini_data_dir, hubert, splits=("tset",)), tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("one_shape")
@pytest.mark.parametrize("pooling", ["none", "mean"])
def test_audio_below_one_frame_is_counted_and_stored_without_states(
    mini_data_dir, hubert, tmp_path, monkeypatch, pooling
):
    least = 20_000
    monkeypatch.setattr(WaveformInputs, "min_samples", property(lambda _: least, lambda *_: None), raising=False)
    short = [len(example["audio"]) < least for example in examples(mini_data_dir)]
    outcome = extract_store(config(mini_data_dir, hubert, pooling=pooling), tmp_path / "store")
    assert outcome.short == sum(short) > 0
    assert outcome.utterances == len(short)
    split = Store(tmp_path / "store").split("test")
    assert [len(split[number]["states"]) == 0 for number in range(len(short))] == short


@pytest.mark.parametrize(
    ("lengths", "num_bytes", "audio", "expected"),
    [
        ([16_000] * 5000, 1, False, (0, 2048, 4096, 5000)),
        ([16_000 * 600] * 5, 1, True, (0, 2, 4, 5)),
        ([16_000 * 10] * 3, 2**25, False, (0, 2, 3)),
        ([16_000 * 6000] * 2, 1, True, (0, 1, 2)),
    ],
)
def test_shards_are_bounded_in_utterances_bytes_and_audio(lengths, num_bytes, audio, expected):
    assert shards.shard_bounds(np.array(lengths), np.full(len(lengths), num_bytes), audio) == expected


@hypothesis.given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=40),
    devices=st.sampled_from([1, 2]),
    fill=st.booleans(),
)
def test_batches_hold_every_sequence_once_and_filled_ones_have_one_shape_per_length(lengths, devices, fill):
    sequences = [np.full(length, number + 1, np.int32) for number, length in enumerate(lengths)]
    batches = list(padded_batches(sequences, 100, 800, None, devices, fill))
    seen = []
    for rows, inputs, sizes in batches:
        assert len(inputs) % devices == 0
        assert not sizes[len(rows) :].any()
        for row, index in enumerate(rows):
            np.testing.assert_array_equal(inputs[row, : sizes[row]], sequences[index])
        assert inputs.sum() == sum(sequences[index].sum() for index in rows)
        seen += rows
    assert sorted(seen) == list(range(len(sequences)))
    shapes = {inputs.shape for _, inputs, _ in batches}
    assert not fill or len(shapes) == len({length for _, length in shapes})


@hypothesis.given(count=st.integers(1, 300), most=st.sampled_from([1, 2, 4, 8, 16, 32, 64]))
def test_few_row_counts_hold_any_number_of_sequences_and_at_most_a_quarter_of_a_batch_is_empty(count, most):
    counts = row_counts(count, most)
    assert set(counts) <= {1, 4, 16, most}
    assert sum(counts[:-1]) < count <= sum(counts)
    assert sum(counts) - count <= 0.25 * counts[-1]
    assert len(counts) <= count // most + 9


def test_the_command_line_extracts_and_reports_its_speed(commands, mini_data_dir, bert, tmp_path):
    command = [
        "--mode=extract",
        "--config=configs/extract.py",
        f"--workdir={os.path.relpath(tmp_path / 'store', ROOT)}",
        "--config.corpus.name=mini_corpus",
        f"--config.encoder.checkpoint={bert}",
        "--config.encoder.max_tokens=8",
    ]
    first, second = (commands.run(*command, data_dir=mini_data_dir) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "57 utterances" in first.stdout
    assert "audio-hours per hour" in first.stdout
    assert "nothing was left to do" in second.stdout, second.stderr
    assert {path.name for path in (tmp_path / "store").iterdir()} == {
        "dev", "store.json", "summary.json", "test", "train",
    }  # fmt: skip
