"""data2vec-audio against transformers' PyTorch model."""

import pytest

from emojax.encoders import load_encoder
from emojax.encoders.families import family_of
from emojax.errors import CheckpointError
from tests import encoder_contract, speech_checkpoints

VARIANTS = {
    "odd": {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5},
    "even": {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 4, "conv_bias": True, "layer_norm_eps": 1e-3},
    "published": {
        "num_conv_pos_embeddings": 5,
        "conv_pos_kernel_size": 19,
        "num_hidden_layers": 1,
        "feat_extract_activation": "relu",
    },
}


def make(folder, name):
    model = speech_checkpoints.make_model("Data2VecAudio", seed=2, **VARIANTS[name])
    return model, speech_checkpoints.write_checkpoint(folder, model)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make(tmp_path_factory.mktemp("data2vec"), "odd")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_hidden_state_equals_pytorch(tmp_path, name):
    model, folder = make(tmp_path, name)
    encoder_contract.assert_states_equal_pytorch(model, load_encoder(folder), atol=2e-5)


def test_gradients_equal_pytorch(pair):
    encoder_contract.assert_gradients_equal_pytorch(pair[0], load_encoder(pair[1]))


def test_training_is_random_and_finite(pair):
    encoder_contract.assert_training_is_random_and_finite(load_encoder(pair[1]))


@pytest.mark.parametrize("scan_layers", [False, True])
def test_saved_encoder_is_read_back(pair, tmp_path, scan_layers):
    encoder_contract.assert_saved_encoder_is_read_back(*pair, tmp_path, scan_layers)


def test_parameters_have_axes_and_are_frozen_by_path(pair):
    encoder_contract.assert_parameters_have_axes(pair[1])
    encoder_contract.assert_freezing_by_path(load_encoder(pair[1]), "transformer/positional_convolution")


def test_task_checkpoints_load_without_their_heads(tmp_path):
    task = speech_checkpoints.make_model("Data2VecAudio", "ForCTC", vocab_size=8, **VARIANTS["odd"])
    encoder = load_encoder(speech_checkpoints.write_checkpoint(tmp_path, task))
    encoder_contract.assert_states_equal_pytorch(task.data2vec_audio, encoder, atol=2e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_conv_pos_embeddings": 65}, "num_conv_pos_embeddings must be >= 1 and <= 64, got 65"),
        ({"conv_pos_kernel_size": 0}, "conv_pos_kernel_size must be >= 1"),
        ({"num_conv_pos_embedding_groups": 5}, "num_conv_pos_embedding_groups must divide hidden_size"),
        ({"num_attention_heads": 5}, r"num_attention_heads must divide hidden_size \(32\), got 5"),
        ({"hidden_act": "mish"}, "hidden_act must be 'gelu' or .*, got 'mish'"),
        ({"add_adapter": True}, "add_adapter must be False, got True"),
        ({"conv_stride": [5, 4]}, "conv_stride must have 3 entries, as many as conv_dim, got 2"),
    ],
)
def test_unsupported_configuration_is_named(changes, message):
    with pytest.raises(CheckpointError, match=message):
        family_of({"model_type": "data2vec-audio", **speech_checkpoints.SIZES, **changes})
