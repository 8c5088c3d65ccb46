"""Checkpoints of strangers: whatever is wrong with a file, one line names the item, and no memory is taken."""

import json
import pathlib
import shutil
import types
import zipfile

import numpy as np
import pytest
import torch

from emojax.encoders import checkpoint_fingerprint, load_encoder
from emojax.encoders.checkpoint_files import read_tensors
from emojax.encoders.families import family_of
from emojax.encoders.token_inputs import TokenInputs
from emojax.encoders.waveform_inputs import parse_waveform_settings, read_waveform_settings
from emojax.encoders.weight_files import read_torch
from emojax.errors import CheckpointError, ConfigError
from emojax.tokenizer import Tokenizer
from tests import speech_checkpoints, text_checkpoints


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return text_checkpoints.write_checkpoint(
        tmp_path_factory.mktemp("published"), text_checkpoints.make_model("BertModel")
    )


@pytest.fixture
def folder(published, tmp_path):
    return pathlib.Path(shutil.copytree(published, tmp_path / "checkpoint"))


def refused(call, match):
    with pytest.raises((CheckpointError, ConfigError), match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


# Tensors.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: {"w": torch.eye(3).to_sparse()}, "w must be a dense floating-point tensor, is sparse"),
        (lambda: {"w": torch.eye(3).to_sparse_csr()}, "w must be a dense floating-point tensor, is sparse"),
        (
            lambda: {"w": torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)},
            "w must be a dense .* is quantised",
        ),
        (lambda: {"w": torch.eye(3).to(torch.float8_e4m3fnuz)}, "w must be a dense .* is float8_e4m3fnuz"),
        (lambda: {"w": torch.empty(3, device="meta")}, "w must be a dense floating-point tensor, is without values"),
        (lambda: {"w": torch.zeros(1).expand(10**6, 10**6)}, "its tensors claim 4000000000000 bytes, it holds 4"),
        (lambda: {3: torch.eye(3)}, "names of tensors must be text, found 3"),
        (lambda: {"w": "x"}, "w must be a tensor, found a str"),
        (lambda: [torch.eye(3)], "must hold a state dict of tensors, found a list"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pytorch_files_of_other_tensors_are_refused_in_one_line(tmp_path, content, message):
    torch.save(content(), tmp_path / "pytorch_model.bin")
    refused(lambda: read_torch(tmp_path / "pytorch_model.bin"), message)


@pytest.mark.parametrize("dtype", [torch.float8_e5m2, torch.float8_e4m3fn, torch.int32, torch.complex64, torch.bool])
def test_tensors_of_other_types_are_named_with_what_is_allowed(folder, dtype):
    (folder / "model.safetensors").unlink()
    tensors = dict(text_checkpoints.make_model("BertModel").state_dict())
    tensors["pooler.dense.bias"] = tensors["pooler.dense.bias"].to(dtype)
    torch.save(tensors, folder / "pytorch_model.bin")
    refused(lambda: load_encoder(folder), "pooler.dense.bias must be float16, bfloat16, float32 or float64, is ")


def test_a_refusal_names_what_was_asked_for_and_proposes_nothing_unsafe(tmp_path):
    torch.save({"w": pathlib.Path("x")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"refused: holds more than tensors, .*\(it asks for pathlib") as caught:
        read_torch(tmp_path / "pytorch_model.bin")
    assert "weights_only" not in str(caught.value)


def test_a_pytorch_file_that_unpacks_to_more_than_itself_is_refused(tmp_path):
    file = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.zeros(4)}, file)
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name, entry in entries.items():
            archive.writestr(name, entry + bytes(10**6))
    refused(lambda: read_torch(file), "is compressed to less than the .* bytes it holds")


def test_a_safetensors_header_of_40_gigabytes_is_refused_unread(tmp_path):
    file = tmp_path / "model.safetensors"
    with file.open("wb") as opened:
        opened.write((40 * 10**9).to_bytes(8, "little"))
        opened.truncate(41 * 10**9)  # sparse: takes no space
    refused(lambda: read_tensors(tmp_path), "header must have at most 100000000 bytes, claims 40000000000")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[1]", "its header must be a JSON object, found list"),
        (b"[" * 100_000, "its header: is nested too deeply"),
        (b'{"w": 3}', "w must have dtype, shape, data_offsets"),
        (b'{"w": {"dtype": "F32", "shape": [1099511627776], "data_offsets": [0, 4]}}', "but 4 bytes"),
        (b"\xff{}", "cannot be read"),
    ],
    ids=["list", "deep", "number", "large", "bytes"],
)
def test_safetensors_headers_of_wrong_types_are_refused(tmp_path, header, message):
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    refused(lambda: read_tensors(tmp_path), message)


def test_safetensors_that_share_bytes_are_refused(tmp_path):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"a": entry, "b": entry}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    refused(lambda: read_tensors(tmp_path), "a and b share bytes")


@pytest.mark.parametrize("kind", ["O", "f4,f4", "(", "float99"])
def test_flax_files_of_other_types_are_refused(tmp_path, kind):
    def text(value):
        return bytes([0xA0 | len(value)]) + value.encode()

    values = b"\x93" + b"\x91\x01" + text(kind) + b"\xc4\x04" + bytes(4)
    content = b"\x81" + text("w") + b"\xc7" + bytes([len(values), 1]) + values
    (tmp_path / "flax_model.msgpack").write_bytes(content)
    refused(lambda: read_tensors(tmp_path), "an array of type")


@pytest.mark.parametrize("places", [[1], {"w": 3}, {"w": "../../../dev/zero"}, 3])
def test_an_index_of_wrong_types_is_refused_by_loading_and_by_fingerprints(folder, places):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    for call in (load_encoder, checkpoint_fingerprint):
        refused(lambda call=call: call(folder), "has no weight_map|names the shard")


# Settings.


def test_an_encoder_is_not_built_larger_than_its_weights(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 256}))
    refused(lambda: load_encoder(folder), r"model\.safetensors: .*which has 256 transformer layers, stored are 2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10_000}, "num_hidden_layers must be >= 1 and <= 256, got 10000"),
        ({"hidden_size": 10**15}, "hidden_size must be >= 1 and <= 65536"),
        ({"conv_dim": [16] * 10_000}, "conv_dim must not be empty and have at most 32 entries"),
        ({"conv_stride": [4000, 4000, 4000]}, "the receptive field must be at most 16000 samples, is "),
        ({"conv_kernel": [10, 3]}, "conv_kernel must have 3 entries, as many as conv_dim, got 2"),
        ({"conv_dim": "wide"}, "conv_dim must be a list, each an integer, got 'wide'"),
        ({"num_attention_heads": 5}, r"num_attention_heads must divide hidden_size \(32\), got 5"),
        ({"num_conv_pos_embedding_groups": 5}, "num_conv_pos_embedding_groups must divide hidden_size"),
        ({"layerdrop": "often"}, "layerdrop must be a number, got 'often'"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps must be a finite number"),
        ({"add_adapter": True}, "add_adapter must be False, got True"),
        ({"num_buckets": 6}, "num_buckets must be a multiple of 4, got 6"),
        ({"model_type": {}}, "model_type must be one of"),
    ],
)
def test_a_speech_config_of_wrong_sizes_or_types_is_refused_in_one_line(changes, message):
    config = {"model_type": "wavlm", **speech_checkpoints.SIZES, **changes}
    refused(lambda: family_of(config, "folder/config.json"), f"folder/config.json.*{message}")


def test_keys_with_defaults_may_be_absent(tmp_path):
    model = speech_checkpoints.make_model("Hubert", num_hidden_layers=1)
    speech_checkpoints.write_checkpoint(tmp_path, model)
    config = json.loads((tmp_path / "config.json").read_text())
    defaults = {key: config.pop(key) for key in ("hidden_act", "layerdrop", "feat_extract_norm")}
    assert defaults["hidden_act"] == "gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = load_encoder(tmp_path)
    assert (encoder.num_layers, encoder.num_features) == (1, 32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sampling_rate": "16000"}, "sampling_rate must be 16000, got '16000'"),
        ({"do_normalize": "false"}, "do_normalize must be True or False, got 'false'"),
        ({"feature_size": [1]}, r"feature_size must be 1, got \[1\]"),
        ({"waveform_std": 0}, "waveform_std must be > 0, got 0"),
        ({"waveform_std": "x", "waveform_mean": 1}, "waveform_std must be a number, got 'x'"),
        ({"feature_extractor": 3}, "must be a group of fields, got 3"),
    ],
)
def test_pre_processing_of_wrong_types_is_refused(tmp_path, content, message):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    refused(lambda: read_waveform_settings(tmp_path), message)
    refused(lambda: parse_waveform_settings([1], "x"), "x must be a group of fields")


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("tokenizer_config.json", {"model_max_length": "long"}),
        ("tokenizer_config.json", {"pad_token": 3}),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}),
        ("tokenizer_config.json", {"tokenizer_class": ["x"]}),
        ("tokenizer.json", {"model": 3}),
        ("tokenizer.json", {"added_tokens": {"a": 1}}),
        ("tokenizer.json", {"model": {"type": "WordLevel", "vocab": {"a": 1}, "unk_token": "<unk>"}}),
        ("special_tokens_map.json", None),
        ("tokenizer.json", None),
    ],
)
def test_tokenizer_files_of_wrong_types_are_refused_in_one_line(folder, file, changes):
    tree = [1] if changes is None else json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps(tree))
    refused(lambda: TokenInputs.read(folder, types.SimpleNamespace(vocab_size=20, max_tokens=30)), str(folder))
    refused(lambda: Tokenizer(str(folder), 8), str(folder))


def test_a_token_id_beyond_the_embeddings_is_refused(folder):
    tree = json.loads((folder / "tokenizer.json").read_text())
    tree["model"]["vocab"]["h"] = 999
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    refused(lambda: load_encoder(folder), "the tokenizer has the token id 999, the encoder 20 embeddings")


def test_a_tokenizer_without_a_padding_token_pads_with_zeros(folder):
    tree = json.loads((folder / "tokenizer_config.json").read_text())
    del tree["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(tree))
    tokens, counts = Tokenizer(str(folder), 6)(["a b", ""])
    assert tokens[0, counts[0] :].tolist() == [0] * (6 - counts[0])
    assert counts.dtype == np.int32
