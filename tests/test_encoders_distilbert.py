"""DistilBERT against transformers' PyTorch model."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from emojax.encoders import load_encoder
from emojax.errors import CheckpointError, ConfigError
from tests import encoder_contract, text_checkpoints

SIZES = {
    "vocab_size": 20,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 30,
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    model = text_checkpoints.make_model("DistilBertModel", sizes=SIZES)
    return model, text_checkpoints.write_checkpoint(tmp_path_factory.mktemp("distilbert"), model)


@pytest.mark.parametrize("changes", [{}, {"activation": "relu", "sinusoidal_pos_embds": True, "n_heads": 2}])
def test_every_hidden_state_equals_pytorch(tmp_path, changes):
    model = text_checkpoints.make_model("DistilBertModel", seed=1, sizes=SIZES, **changes)
    folder = text_checkpoints.write_checkpoint(tmp_path, model)
    encoder_contract.assert_states_equal_pytorch(model, load_encoder(folder), atol=1e-5)


def test_gradients_equal_pytorch(pair):
    model, folder = pair
    encoder_contract.assert_gradients_equal_pytorch(model, load_encoder(folder))


def test_training_is_random_and_finite(pair):
    encoder_contract.assert_training_is_random_and_finite(load_encoder(pair[1]))


@pytest.mark.parametrize("scan_layers", [False, True])
def test_saved_encoder_is_read_back(pair, tmp_path, scan_layers):
    encoder_contract.assert_saved_encoder_is_read_back(*pair, tmp_path, scan_layers)


def test_parameters_have_axes_and_are_frozen_by_path(pair):
    encoder_contract.assert_parameters_have_axes(pair[1])
    encoder_contract.assert_freezing_by_path(load_encoder(pair[1]), "layer_0")


@pytest.mark.parametrize(
    "architecture",
    ["DistilBertForMaskedLM", "DistilBertForSequenceClassification", "DistilBertForQuestionAnswering"],
)
def test_task_checkpoints_load_without_their_heads(tmp_path, architecture):
    task = text_checkpoints.make_model(architecture, sizes=SIZES)
    encoder = load_encoder(text_checkpoints.write_checkpoint(tmp_path, task))
    kernel = task.distilbert.transformer.layer[1].ffn.lin1.weight.detach().numpy().T
    np.testing.assert_array_equal(encoder.params["layer_1"]["mlp_in"]["kernel"], kernel)


def test_token_types_are_an_error(pair):
    encoder = load_encoder(pair[1])
    tokens = jnp.zeros((1, 3), int)
    with pytest.raises(ConfigError, match="token_types must be None"):
        encoder.module.apply({"params": encoder.params}, tokens, jnp.array([3]), tokens)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 5}, r"n_heads must divide dim \(32\), got 5"),
        ({"activation": "mish"}, "activation must be 'gelu' or .*, got 'mish'"),
        ({"n_layers": 3}, "which has 3 transformer layers, stored are 2"),
        ({"hidden_dim": "wide"}, "hidden_dim must be an integer, got 'wide'"),
        ({"attention_dropout": 2}, "attention_dropout must be >= 0 and <= 1, got 2"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads must have at most 0 entries"),
    ],
)
def test_unsupported_configuration_is_named(pair, tmp_path, changes, message):
    for file in pair[1].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=message):
        load_encoder(tmp_path)
