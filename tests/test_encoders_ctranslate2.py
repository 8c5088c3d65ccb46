"""CTranslate2's Whisper folders: files written here, read as the PyTorch model they hold."""

import json
import struct

import jax
import numpy as np
import pytest

from emojax.encoders import ComputeOptions, checkpoint_fingerprint, load_encoder
from emojax.encoders.ctranslate2_file import open_ctranslate2
from emojax.errors import CheckpointError
from emojax.planning.architectures import describe_encoder
from tests import speech_checkpoints
from tests.test_encoders_whisper import SIZES

TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def string(text):
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def write(file, variables, aliases=(), version=6, specification="WhisperSpec"):
    parts = [struct.pack("<I", version), string(specification), struct.pack("<II", 3, len(variables))]
    for name, array in variables.items():
        shape = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        parts += [string(name), shape, struct.pack("<BI", TYPES[array.dtype.name], array.nbytes), array.tobytes()]
    parts += [struct.pack("<I", len(aliases)), *(string(name) for pair in aliases for name in pair)]
    file.write_bytes(b"".join(parts))


def layer(tensors, source, target):
    def stack(names, leaf):
        return np.concatenate([tensors.get(f"{source}.self_attn.{name}.{leaf}", np.zeros(32)) for name in names])

    variables = {}
    for ours, theirs in (("q_proj k_proj v_proj", "linear_0"), ("out_proj", "linear_1")):
        for leaf in ("weight", "bias"):
            variables[f"{target}/self_attention/{theirs}/{leaf}"] = stack(ours.split(), leaf)
    for ours, theirs in (("self_attn_layer_norm", "self_attention"), ("final_layer_norm", "ffn")):
        variables[f"{target}/{theirs}/layer_norm/gamma"] = tensors[f"{source}.{ours}.weight"]
        variables[f"{target}/{theirs}/layer_norm/beta"] = tensors[f"{source}.{ours}.bias"]
    for ours, theirs in (("fc1", "linear_0"), ("fc2", "linear_1")):
        for leaf in ("weight", "bias"):
            variables[f"{target}/ffn/{theirs}/{leaf}"] = tensors[f"{source}.{ours}.{leaf}"]
    return variables


@pytest.fixture(scope="module")
def model():
    return speech_checkpoints.make_model("Whisper", seed=3, **SIZES)


@pytest.fixture(scope="module")
def variables(model):
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    found = {
        **layer(tensors, "decoder.layers.0", "decoder/layer_0"),
        "decoder/position_encodings/encodings": tensors["decoder.embed_positions.weight"],
        "decoder/embeddings/weight": tensors["decoder.embed_tokens.weight"],
        "encoder/position_encodings/encodings": tensors["encoder.embed_positions.weight"],
        "encoder/layer_norm/gamma": tensors["encoder.layer_norm.weight"],
        "encoder/layer_norm/beta": tensors["encoder.layer_norm.bias"],
    }
    for number in range(2):
        found |= layer(tensors, f"encoder.layers.{number}", f"encoder/layer_{number}")
        for leaf in ("weight", "bias"):
            found[f"encoder/conv{number + 1}/{leaf}"] = tensors[f"encoder.conv{number + 1}.{leaf}"]
    found = {name: array.astype(np.float16) for name, array in found.items()}
    return found | {"encoder/num_heads": np.array(4, np.int16), "decoder/num_heads": np.array(2, np.int16)}


@pytest.fixture
def folder(tmp_path, variables):
    write(tmp_path / "model.bin", variables, [("decoder/projection/weight", "decoder/embeddings/weight")])
    (tmp_path / "config.json").write_text(json.dumps({"suppress_ids": [], "lang_ids": []}))
    return tmp_path


def test_a_folder_loads_like_the_published_checkpoint(model, folder, tmp_path_factory):
    published = tmp_path_factory.mktemp("published")
    model.half().save_pretrained(published)
    model.float()
    ours, theirs = load_encoder(folder), load_encoder(published)
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    keys = ("d_model", "encoder_layers", "decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim", "vocab_size")
    assert {key: ours.config[key] for key in keys} == {key: theirs.config[key] for key in keys}
    assert ours.module == theirs.module.clone(config=ours.module.config)
    sizes = ours.module.config
    assert (sizes.num_heads, sizes.num_bands, sizes.max_frames) == (4, 80, SIZES["max_source_positions"])
    assert describe_encoder(str(folder), ComputeOptions()).num_layers == 2


def test_an_alias_is_the_variable_it_names(folder, variables):
    gammas = ("encoder/layer_0/ffn/layer_norm/gamma", "encoder/layer_1/ffn/layer_norm/gamma")
    write(folder / "model.bin", {key: variables[key] for key in variables if key != gammas[1]}, [gammas[::-1]])
    params = load_encoder(folder).params["transformer"]
    np.testing.assert_array_equal(params["layer_0"]["mlp_norm"]["scale"], params["layer_1"]["mlp_norm"]["scale"])


def test_the_fingerprint_follows_the_weights_and_the_vocabulary(folder, variables):
    found = [checkpoint_fingerprint(folder)]
    (folder / "vocabulary.txt").write_text("a")
    found.append(checkpoint_fingerprint(folder))
    write(folder / "model.bin", variables)
    assert len({*found, checkpoint_fingerprint(folder)}) == 3


def test_every_truncation_is_an_error_of_one_line(folder):
    content = (folder / "model.bin").read_bytes()
    for end in (0, 3, 5, 17, 30, 200, len(content) // 2, len(content) - 1):
        (folder / "model.bin").write_bytes(content[:end])
        with pytest.raises(CheckpointError, match=r"model.bin: cannot be read as a CTranslate2 model \(.*\)") as found:
            load_encoder(folder)
        assert "\n" not in str(found.value)


def header(name=b"\x02\0x\0", rank=1, dims=(4,), kind=0, num_bytes=16):
    start = struct.pack("<I", 6) + string("WhisperSpec") + struct.pack("<II", 3, 1)
    return start + name + struct.pack(f"<B{len(dims)}IBI", rank, *dims, kind, num_bytes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<I", 5), "its version must be 6, got 5"),
        (header() + bytes(8), r"truncated: x ends at byte \d+, the file at \d+"),
        (header(dims=(2**31, 2**31), rank=2), r"x has shape \(2147483648, 2147483648\) and type float32 but 16 bytes"),
        (header(rank=200), "x must have at most 8 axes, got 200"),
        (header(kind=9) + bytes(16), "the type of x must be at most 5, got 9"),
        (header(name=b"\xff\xffx"), "truncated at byte"),
        (header(name=b"\x02\0\xff\0"), "utf-8"),
        (struct.pack("<I", 6) + string("S") + struct.pack("<II", 3, 2**32 - 1), "must have at most 131072 variables"),
        (header() + bytes(16) + struct.pack("<I", 1) + string("a") + string("b"), "the alias a of b must be"),
        (header() + bytes(16) + struct.pack("<I", 0) + b"rest", "4 bytes follow its last alias"),
    ],
)
def test_damaged_files_are_errors_that_name_the_damage(tmp_path, content, message):
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_ctranslate2(tmp_path / "model.bin")


def test_other_models_quantised_ones_and_absent_variables_are_named(folder, variables):
    write(folder / "model.bin", variables, specification="TransformerSpec")
    with pytest.raises(CheckpointError, match="must be a WhisperSpec, got 'TransformerSpec'"):
        load_encoder(folder)
    name = "encoder/layer_1/ffn/linear_0/weight"
    write(folder / "model.bin", variables | {name: variables[name].astype(np.int8)})
    with pytest.raises(CheckpointError, match=f"{name} must be float16, .*, is int8"):
        load_encoder(folder)
    write(folder / "model.bin", {key: array for key, array in variables.items() if key != "encoder/num_heads"})
    with pytest.raises(CheckpointError, match="has no variable encoder/num_heads"):
        load_encoder(folder)
