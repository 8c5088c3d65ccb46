"""Verification of workdirs: flipped bytes, invalid values, inconsistent sizes."""

import dataclasses
import functools
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import emojax
from configs import default
from emojax.config import parse_experiment
from emojax.errors import CheckpointError, EmojaxError
from emojax.files import checked_content, with_digest
from emojax.models import EmotionModel, example_batch, variable_shapes
from emojax.parallel import MeshConfig, make_mesh, replicated
from emojax.reporting.results import read_run
from emojax.schema import to_tree
from emojax.types import CorpusInfo
from emojax.workdir import (
    QUANTISED,
    Checkpoints,
    abstract_like,
    check_same_corpus,
    own_checkpoint_directory,
    read_corpus_metadata,
    restore_model,
    unknown_labels,
    write_corpus_metadata,
    write_json,
)
from emojax.workdir.digests import DIGESTS
from emojax.workdir.restore import quantise_workdir

INFO = CorpusInfo("toy/1.0.0", (1.0, 7.0), ("anger", "neutral"), "recorded", "rated", "CC0-1.0", "nobody")
TRAINING = {"step": jnp.int32(3), "opt_state": [jnp.arange(400.0)]}


def mesh():
    return make_mesh(MeshConfig(1, 1), jax.devices()[:1])


def make_workdir(folder, checkpoint_dir=""):
    """A workdir of a tiny untrained model: step 2 is the best, step 3 the latest."""
    tree = default.get_config()
    tree.model.log_mel.network.update({"gru_layers": 0, "conv_channels": 4, "embedding_size": 4})
    tree.objective.emotion_weight = 0.5
    tree.training.checkpoint_dir = checkpoint_dir
    config = parse_experiment(tree.to_dict())
    model = EmotionModel(config.model, 2)
    variables = jax.jit(model.init)(jax.random.key(0), example_batch(model))
    write_json(folder / "config.json", to_tree(config))
    write_corpus_metadata(folder, unknown_labels(INFO))
    with Checkpoints(own_checkpoint_directory(folder, checkpoint_dir), writing=True) as checkpoints:
        for step, score in ((1, 0.1), (2, 0.5), (3, 0.2)):
            scaled = jax.tree.map(lambda leaf, step=step: leaf * step, variables)
            checkpoints.save(step, scaled, TRAINING, {"position": step, "best": 0.5}, score)
    return folder


@pytest.fixture(scope="module", autouse=True)
def shapes_once():
    """Shapes of equal models are computed once: workdirs are restored hundreds of times here."""

    @functools.lru_cache
    def shapes(config, num_categories):
        model = EmotionModel(config, num_categories)
        return variable_shapes(model, example_batch(model))

    def cached(model, batch):
        return variable_shapes(model, batch) if model.encoders else dict(shapes(model.config, model.num_categories))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emojax.workdir.restore.variable_shapes", cached)
        yield


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return make_workdir(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def small(workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "small"
    quantise_workdir(workdir, folder)
    return folder


@pytest.fixture
def copied(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "copy")
    return tmp_path / "copy"


def everything(folder):
    """Reads a workdir as prediction and continuation do."""
    trained = restore_model(folder, mesh())
    found = [
        trained.step,
        repr(trained.config),
        repr(trained.metadata.info),
        trained.metadata.attributes,
        trained.variables,
    ]
    if (folder / "checkpoints").is_dir():
        with Checkpoints(folder / "checkpoints", writing=False) as checkpoints:
            step = checkpoints.latest_step
            abstract = abstract_like(TRAINING, replicated(mesh()))
            found += [step, repr(checkpoints.metadata(step)), checkpoints.restore(step, {"training": abstract})]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]


def kinds(folder):
    """Files of a workdir; of several array files the first."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            parts = path.relative_to(folder).parts
            found.setdefault("/".join(part if len(part) < 32 else "X" for part in parts), path.relative_to(folder))
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("integers", [False, True])
def test_flipped_byte_is_detected_or_has_no_effect(workdir, small, tmp_path, seed, integers):
    source = small if integers else workdir
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    expected, found_out = everything(folder), set()
    for number, (kind, name) in enumerate(kinds(folder).items()):
        random = np.random.default_rng((seed, number))
        content = (folder / name).read_bytes()
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << int(random.integers(8))
        (folder / name).write_bytes(damaged)
        try:
            found = everything(folder)
        except CheckpointError:
            found_out.add(kind)
        else:
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=f"{kind}, seed {seed}")
        (folder / name).write_bytes(content)
    arrays = {"checkpoints/2/model/d/X", "checkpoints/2/model/ocdbt.process_0/d/X", "checkpoints/3/training/d/X"}
    assert found_out >= ({QUANTISED} if integers else arrays | {"checkpoints/2/metrics/metrics"})


def with_other_end(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def test_damaged_checkpoint_raises_naming_an_intact_one(copied):
    data = min((copied / "checkpoints" / "2" / "model" / "d").iterdir())  # of one file or several
    data.write_bytes(with_other_end(data.read_bytes()))
    with pytest.raises(
        CheckpointError, match=rf"2/model/d/{data.name}: is damaged .*; the checkpoint of step 3 is int"
    ):
        emojax.load(copied)
    shutil.rmtree(copied / "checkpoints" / "2")
    assert restore_model(copied, mesh()).step == 3
    (copied / "checkpoints" / "3" / DIGESTS).unlink()
    with pytest.raises(CheckpointError, match=rf"3/{DIGESTS}: is missing; no other checkpoint is known to be intact"):
        emojax.load(copied)


def test_digests_can_be_disabled_and_are_optional(copied):
    folder = copied / "checkpoints"
    data = min((folder / "2" / "model" / "ocdbt.process_0" / "d").iterdir())
    data.write_bytes(with_other_end(data.read_bytes()))  # what the arrays are not read from
    abstract = {"training": abstract_like(TRAINING, replicated(mesh()))}
    with Checkpoints(folder, writing=False, digests=False) as checkpoints:
        assert checkpoints.restore(2, abstract)["training"]["step"] == 3
    with Checkpoints(copied / "old", writing=True, digests=False) as checkpoints:
        checkpoints.save(1, TRAINING, TRAINING, {"position": 1}, 0.5)
    assert not list((copied / "old").rglob(DIGESTS))
    with Checkpoints(copied / "old", writing=False) as checkpoints:
        assert checkpoints.best_step == 1
        assert checkpoints.restore(1, abstract)["training"]["step"] == 3


def test_remains_of_interrupted_deletion_are_ignored(copied):
    folder = copied / "checkpoints"
    left = folder / "1"
    shutil.copytree(folder / "2", left)
    shutil.rmtree(left / "model" / "d")
    with Checkpoints(folder, writing=False) as checkpoints:
        assert (checkpoints.best_step, checkpoints.latest_step) == (2, 3)
    assert left.exists()
    with Checkpoints(folder, writing=True) as checkpoints:
        assert (checkpoints.best_step, checkpoints.latest_step) == (2, 3)
    assert not left.exists()


@pytest.mark.parametrize(
    "content", ["{", "[" * 100_000, '{"score": "high"}', '{"score": NaN}', "[1]", "\xff", '{"s": 1}']
)
def test_damaged_score_raises_with_and_without_digests(copied, content):
    for path in copied.rglob(DIGESTS):
        path.unlink()
    (copied / "checkpoints" / "2" / "metrics" / "metrics").write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"checkpoints") as caught:
        emojax.load(copied)
    assert "\n" not in str(caught.value)


def rewritten(path, change):
    """Changes a JSON file and updates its digest."""
    tree = checked_content(json.loads(path.read_text()), str(path))
    change(tree)
    path.write_text(json.dumps(with_digest(tree)))


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (["1", "7"], r"info\.scale\[0\] must be a number, got '1'"),
        ([4, 4], r"info\.scale must be a lower and a higher number"),
        ([7, 1], r"info\.scale must be a lower and a higher number"),
        ([1, float("inf")], r"info\.scale\[1\] must be a finite number"),
        ([1], r"info\.scale must have 2 values"),
        (None, r"info\.scale must be a list"),
    ],
)
def test_invalid_scale_raises(copied, scale, message):
    rewritten(copied / "corpus.json", lambda tree: tree["info"].update(scale=scale))
    with pytest.raises(CheckpointError, match=rf"corpus\.json: corpus\.{message}"):
        emojax.load(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree["training_labels"].update(emotion_counts=[10**15, 0]), "must be >= 0 and <= 20000000"),
        (lambda tree: tree["training_labels"].update(emotion_counts=[2 * 10**7] * 2), "must sum to <= 20000000"),
        (lambda tree: tree["training_labels"].update(emotion_counts=[1]), "must have 2 counts"),
        (lambda tree: tree["training_labels"]["attribute_quantiles"].update(valence=[1.0]), "have 200 entries"),
        (lambda tree: tree["info"].update(categories=["anger", "anger"]), "categories must differ"),
        (lambda tree: tree["info"].update(categories=["anger", "\ud800"]), "must be text without"),
        (lambda tree: tree["info"].pop("name"), "info.name is missing"),
        (lambda tree: tree.clear(), "info is missing"),
    ],
)
def test_invalid_corpus_metadata_raises(copied, change, message):
    rewritten(copied / "corpus.json", change)
    with pytest.raises(CheckpointError, match=message):
        read_corpus_metadata(copied)


@pytest.mark.parametrize("name", ["config.json", "corpus.json", "checkpoints/3/sha256.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "is nested too deeply"),
        ('{"a": ' * 300 + "1" + "}" * 300, "is nested too deeply"),
        ("[1]", "must hold a JSON object, got list"),
        ("\xff", "cannot be read"),
    ],
)
def test_invalid_json_raises_one_line_error(copied, name, content, message):
    (copied / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=message):
        emojax.load(copied)


def test_pipe_instead_of_a_file_raises_immediately(copied):
    (copied / "config.json").unlink()
    os.mkfifo(copied / "config.json")
    with pytest.raises(CheckpointError, match=r"config.json: is not a regular file"):
        emojax.load(copied)


def test_digests_with_external_paths_raise(copied):
    rewritten(copied / "checkpoints" / "3" / DIGESTS, lambda tree: tree["files"].update({"../../../secret": "0"}))
    with pytest.raises(CheckpointError, match=r"must be paths below the folder, got '\.\./\.\./\.\./secret'"):
        emojax.load(copied)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gru_layers": 10**6}, r"config\.json: .*network\.gru_layers must be >= 0 and <= 64, got 1000000"),
        (
            {"gru_layers": 8, "gru_size": 16_384},
            r"checkpoints/2: params/.*, its config and corpus.json ask for \(16384, 4\)",
        ),
        ({"embedding_size": 16_384}, r"checkpoints/2: .* ask for \(.*16384"),
    ],
)
def test_config_sizes_that_differ_from_the_checkpoint_raise_before_reading(copied, monkeypatch, changes, message):
    monkeypatch.setattr(Checkpoints, "restore", lambda *arguments: pytest.fail("arrays were read"))
    rewritten(copied / "config.json", lambda tree: tree["model"]["log_mel"]["network"].update(changes))
    with pytest.raises(CheckpointError, match=message):
        emojax.load(copied)


def test_arrays_of_another_shape_raise_before_reading(copied, small, tmp_path):
    shutil.copytree(small, tmp_path / "integers")
    for folder, place in ((copied, "checkpoints/2"), (tmp_path / "integers", QUANTISED)):
        rewritten(folder / "config.json", lambda tree: tree["model"]["log_mel"]["network"].update(embedding_size=5))
        with pytest.raises(
            CheckpointError, match=rf"{place}: params/.* has shape \(.*4.*\), its config .* ask for \(.*5"
        ):
            emojax.load(folder)
    rewritten(copied / "corpus.json", lambda tree: tree["info"].update(categories=[]))
    with pytest.raises(CheckpointError, match=r"emotion_counts must have 0 counts, got 2"):
        emojax.load(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, n: t.pop(n + ".scale"), r"\.scale must be float32 of shape \(\d+,\), got none"),
        (lambda t, n: t.update({n + ".scale": t[n + ".scale"][:1]}), r"\.scale must be float32 of shape"),
        (lambda t, n: t.update({n + ".scale": t[n + ".scale"].astype(np.float64)}), r"got float64"),
        (lambda t, n: t.update({n + ".scale": t[n + ".scale"] * np.nan}), r"\.scale must be finite and > 0"),
        (lambda t, n: t.update({n + ".scale": t[n + ".scale"] * 0}), r"\.scale must be finite and > 0"),
        (lambda t, n: t.update({n: t[n].astype(np.int16)}), r"must be int8 or float32 .*, got int16"),
        (lambda t, n: t.pop(n), r"has no array"),
    ],
)
def test_quantised_weights_with_invalid_scales_raise(small, tmp_path, change, message):
    folder = tmp_path / "copy"
    shutil.copytree(small, folder)
    tensors = load_file(folder / QUANTISED)
    name = next(name for name in tensors if name + ".scale" in tensors)
    change(tensors, name)
    save_file(tensors, folder / QUANTISED)
    with pytest.raises(CheckpointError, match=message):
        emojax.load(folder)


def test_quantising_to_an_unwritable_folder_raises(workdir, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmojaxError, match=r"file/small.*: cannot be written"):
        quantise_workdir(workdir, tmp_path / "file" / "small")


def test_external_checkpoints_are_read_only_with_the_id_of_the_workdir(tmp_path):
    mine = make_workdir(tmp_path / "mine", str(tmp_path / "disk" / "mine"))
    moved = tmp_path / "moved"
    shutil.move(mine, moved)
    assert restore_model(moved, mesh()).step == 2
    # another workdir with the same checkpoint folder
    other = make_workdir(tmp_path / "other")
    rewritten(
        other / "config.json", lambda tree: tree["training"].update(checkpoint_dir=str(tmp_path / "disk" / "mine"))
    )
    assert restore_model(other, mesh()).step == 2  # its own, which are inside
    shutil.rmtree(other / "checkpoints")
    with pytest.raises(CheckpointError, match=r"which has no workdir.json with the id of this workdir and is not r"):
        emojax.load(other)
    write_json(other / "checkpoints.json", {"id": "0" * 32})
    with pytest.raises(CheckpointError, match=r"which has no workdir.json with the id"):
        emojax.load(other)
    with pytest.raises(CheckpointError, match=r"has the checkpoints of another one"):
        own_checkpoint_directory(other, str(tmp_path / "disk" / "mine"))


def test_run_without_ids_gets_them_when_continued(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    folder = make_workdir(tmp_path / "run", str(elsewhere))
    (folder / "checkpoints.json").unlink()
    (elsewhere / "workdir.json").unlink()
    with pytest.raises(CheckpointError, match=r"if it is your own run, continue it once"):
        emojax.load(folder)
    with pytest.raises(CheckpointError, match=r"has the checkpoints of another one"):
        own_checkpoint_directory(tmp_path / "new", str(elsewhere))
    (folder / "metrics.jsonl").touch()
    own_checkpoint_directory(folder, str(elsewhere))
    assert restore_model(folder, mesh()).step == 2


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("gs://bucket/run", r"gs://bucket/run.*: cannot be reached \(.*install gcsfs"),
        ("ftp://host/run", r"must be a folder, gs://, s3://, az://, got ftp://host/run"),
        ("~nobody-of-that-name/run", r"checkpoint_dir: ~nobody-of-that-name/run: "),
    ],
)
def test_unreachable_checkpoint_folder_raises(copied, monkeypatch, place, message):
    def without_gcsfs(path):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr("etils.epath.gpath.PosixGPath.exists", without_gcsfs)
    rewritten(copied / "config.json", lambda tree: tree["training"].update(checkpoint_dir=place))
    write_json(copied / "checkpoints.json", {"id": "0" * 32})
    with pytest.raises(CheckpointError, match=message):
        emojax.load(copied)


def test_deeply_nested_results_are_reported_without_traceback(copied):
    for name in ("summary.json", "evaluation/test.json"):
        (copied / name).parent.mkdir(exist_ok=True)
        (copied / name).write_text('{"a": ' * 900 + "1" + "}" * 900)
    problems = read_run(copied).problems
    assert [problem.partition(": ")[2] for problem in problems[1:]] == ["is nested too deeply"] * 2


def test_edited_json_raises_with_hint_to_accept(copied):
    tree = json.loads((copied / "config.json").read_text())
    tree["seed"] = 7
    (copied / "config.json").write_text(json.dumps(tree))
    with pytest.raises(CheckpointError, match=r"config.json: is damaged or was edited .* remove the key 'sha256'"):
        emojax.load(copied)
    del tree["sha256"]
    (copied / "config.json").write_text(json.dumps(tree, indent=7, sort_keys=True))
    assert restore_model(copied, mesh()).config.seed == 7


def test_run_continues_only_with_unchanged_corpus(tmp_path):
    before = dataclasses.replace(unknown_labels(INFO), content={"audio": "a", "transcript": "t"})
    check_same_corpus(tmp_path, before)  # nothing has begun
    write_corpus_metadata(tmp_path, before)
    check_same_corpus(tmp_path, before)
    with pytest.raises(CheckpointError, match=r"toy/1\.0\.0 has changed since the run started \(audio differ\)"):
        check_same_corpus(tmp_path, dataclasses.replace(before, content={"audio": "b", "transcript": "t"}))
    write_corpus_metadata(tmp_path, unknown_labels(INFO))  # as a run from before there were digests
    check_same_corpus(tmp_path, before)
