"""Models of several modalities: missing modalities, trainable parameters, fusion kinds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from configs import default
from emojax.config import parse_experiment
from emojax.encoders import load_encoder
from emojax.errors import ConfigError
from emojax.models import (
    EmotionModel,
    EncoderPart,
    count_parameters,
    distances_from_top,
    merge_params,
    split_params,
    trainable_mask,
)
from emojax.models.fusion import FUSIONS
from emojax.models.heads import drop_modalities
from emojax.models.pooling import AttentivePooling
from emojax.types import Batch, StoredRows
from tests import speech_checkpoints, text_checkpoints

SAMPLES, TOKENS = 8_000, 6
MODALITIES = ("log_mel", "acoustic", "lexical")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    hubert = speech_checkpoints.make_model("Hubert", **speech_checkpoints.BASE)
    bert = text_checkpoints.make_model("BertModel")
    hubert_folder, bert_folder = tmp_path_factory.mktemp("hubert"), tmp_path_factory.mktemp("bert")
    speech_checkpoints.write_checkpoint(hubert_folder, hubert)
    text_checkpoints.write_checkpoint(bert_folder, bert)
    return {"acoustic": load_encoder(hubert_folder), "lexical": load_encoder(bert_folder)}


def config(modalities=MODALITIES, kind="early", **encoder):
    tree = default.get_config()
    tree.model.modalities = modalities
    tree.model.fusion.kind = kind
    tree.model.fusion.size = 8
    for modality in MODALITIES:
        tree.model[modality].network.update({"gru_layers": 1, "gru_size": 6, "conv_channels": 0, "embedding_size": 5})
        tree.model[modality].network.pooling = "mean"
        if modality != "log_mel":
            tree.model[modality].checkpoint = "somewhere"
            tree.model[modality].layers = (0, 1, -1)
            tree.model[modality].update(encoder)
    return parse_experiment(tree.to_dict()).model


def make_batch(rows=4, seed=0):
    rng = np.random.default_rng(seed)
    return Batch(
        waveform=jnp.asarray(rng.normal(0, 3000, (rows, SAMPLES)).astype(np.int16)),
        num_samples=jnp.asarray([SAMPLES, 5_000, 7_000, SAMPLES][:rows]),
        tokens=jnp.asarray(rng.integers(4, 12, (rows, TOKENS)), jnp.int32),
        num_tokens=jnp.asarray([TOKENS, 3, 4, 2][:rows]),
        attributes=jnp.zeros((rows, 3)),
        emotion=jnp.zeros(rows, jnp.int32),
        emotion_votes=jnp.zeros((rows, 4)),
        weight=jnp.ones(rows),
        index=jnp.arange(rows),
    )


def make_model(encoders, settings):
    parts = {modality: EncoderPart.of(encoders[modality]) for modality in settings.encoder_modalities}
    model = EmotionModel(settings, 4, parts)

    def initialise():
        variables = model.init(jax.random.key(1), make_batch())
        for modality in parts:  # random values would be compiled that are not used
            variables["params"][modality].pop("encoder")
        return variables

    variables = jax.jit(initialise)()
    loaded = {modality: {"encoder": encoders[modality].params} for modality in settings.encoder_modalities}
    params = merge_params(loaded, variables["params"])
    # Embeddings of missing modalities are initialised with zeros.
    params = jax.tree.map(lambda leaf: leaf + 0.01, params)
    return model, {**variables, "params": params}


def shapes_of_model(encoders, settings):
    """Parameters by shape alone."""
    parts = {modality: EncoderPart.of(encoders[modality]) for modality in settings.encoder_modalities}
    params = jax.eval_shape(EmotionModel(settings, 4, parts).init, jax.random.key(1), make_batch())["params"]
    return merge_params({modality: {"encoder": encoders[modality].params} for modality in parts}, params)


def compiled(model):
    return jax.jit(lambda variables, batch: model.apply(variables, batch))


@pytest.fixture(scope="module", params=FUSIONS)
def fused(request, encoders):
    """A compiled model of every kind of fusion, and its variables."""
    model, variables = make_model(encoders, config(kind=request.param))
    return compiled(model), variables


def test_a_missing_transcript_or_missing_audio_leaves_the_other_rows_and_the_prediction_intact(fused):
    apply, variables = fused
    batch = make_batch()
    whole = apply(variables, batch)
    without_text = apply(variables, batch.replace(num_tokens=batch.num_tokens.at[1].set(0)))
    without_audio = apply(variables, batch.replace(num_samples=batch.num_samples.at[1].set(0)))
    for other in (without_text, without_audio):
        assert np.isfinite(other.attributes).all()
        np.testing.assert_allclose(other.attributes[::2], whole.attributes[::2], atol=1e-5)
        assert np.abs(other.attributes[1] - whole.attributes[1]).max() > 1e-4
    # Without a transcript, the token ids have no influence.
    scrambled = batch.replace(num_tokens=batch.num_tokens.at[1].set(0), tokens=batch.tokens.at[1].set(5))
    np.testing.assert_allclose(apply(variables, scrambled).attributes, without_text.attributes, atol=1e-6)


def test_padding_and_neighbours_never_change_a_fused_prediction(fused):
    apply, variables = fused
    batch = make_batch()
    alone = jax.tree.map(lambda rows: rows[1:2], batch)
    alone = alone.replace(waveform=alone.waveform[:, :6_000], tokens=alone.tokens[:, :4])
    filled = batch.replace(waveform=batch.waveform.at[1, 5_000:].set(9_999))
    expected = apply(variables, batch)
    np.testing.assert_allclose(apply(variables, alone).attributes, expected.attributes[1:2], atol=2e-5)
    np.testing.assert_allclose(apply(variables, filled).attributes, expected.attributes, atol=1e-5)


@pytest.mark.parametrize("combine", ["concatenate", "mean", "weighted"])
def test_states_from_the_batch_and_from_the_encoder_give_the_same(encoders, combine):
    settings = config(modalities=("acoustic", "lexical"), combine=combine)
    model, variables = make_model(encoders, settings)
    batch, stored = make_batch(), {}
    for modality, inputs in (("acoustic", batch.waveform / 2**15), ("lexical", batch.tokens)):
        lengths = batch.num_samples if modality == "acoustic" else batch.num_tokens
        encoder = encoders[modality]
        if modality == "acoustic":
            inputs = encoder.inputs(inputs, lengths)
        output = encoder.module.apply({"params": encoder.params}, inputs, lengths, hidden_states=True)
        states = jnp.stack([output.hidden_states[0], output.hidden_states[1], output.last_hidden_state], axis=2)
        stored[modality] = StoredRows(states, output.mask.sum(axis=1))
    # make_model changed every parameter, the encoders' too.
    params = merge_params(
        {modality: {"encoder": encoders[modality].params} for modality in stored}, variables["params"]
    )
    online = compiled(model)({**variables, "params": params}, batch)
    stored_batch = batch.replace(stored=stored, waveform=jnp.zeros((4, 0), jnp.int16))
    own = {name: {key: leaf for key, leaf in tree.items() if key != "encoder"} for name, tree in params.items()}
    np.testing.assert_allclose(
        compiled(model)({**variables, "params": own}, stored_batch).attributes, online.attributes, atol=1e-5
    )


def test_modalities_are_dropped_at_the_given_rate_but_never_all():
    present = {"a": jnp.ones(4_000, bool), "b": jnp.ones(4_000, bool), "c": jnp.arange(4_000) % 2 == 0}
    kept = drop_modalities(jax.random.key(0), present, 0.3)
    stacked = np.stack([kept[name] for name in present])
    assert stacked.any(axis=0).all()
    assert not (kept["c"] & ~present["c"]).any()
    # a is kept with 0.7, and where all are dropped (0.3 ^ modalities).
    assert np.mean(kept["a"]) == pytest.approx(0.7 + (0.3**3 + 0.3**2) / 2, abs=0.03)
    assert all((drop_modalities(jax.random.key(0), present, 0.0)[name] == present[name]).all() for name in present)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"train": "nothing"}, set()),
        ({"train": "all"}, {"feature_projection", "transformer", "mask_embedding"}),
        ({"train": "all", "train_convolutions": True}, {"feature_encoder", "feature_projection", "transformer",
                                                        "mask_embedding"}),
        ({"train": "top", "top_layers": 1}, {"transformer"}),
    ],
)  # fmt: skip
def test_trained_parts_of_an_encoder_are_those_asked_for(encoders, settings, expected):
    model_config = config(modalities=("acoustic",), **settings)
    params = shapes_of_model(encoders, model_config)
    trained, frozen = split_params(params, trainable_mask(params, model_config))
    assert set(trained["acoustic"].get("encoder", {})) == expected
    if settings["train"] == "top":
        assert set(trained["acoustic"]["encoder"]["transformer"]) == {"layer_1"}
    assert {"acoustic_network", "heads"} <= set(trained)
    whole = merge_params(trained, frozen)
    assert jax.tree.structure(whole) == jax.tree.structure(params)
    assert count_parameters(trained) + count_parameters(frozen) == count_parameters(params)


def test_only_trained_parts_get_gradients_and_training_changes_no_frozen_encoder_state(encoders):
    settings = config(modalities=("acoustic",), train="top", top_layers=1)
    model, variables = make_model(encoders, settings)
    trained, frozen = split_params(variables["params"], trainable_mask(variables["params"], settings))

    def loss(trained):
        rngs = {"dropout": jax.random.key(0), "augment": jax.random.key(1)}
        params = {**variables, "params": merge_params(trained, frozen)}
        return jnp.square(model.apply(params, make_batch(), train=True, rngs=rngs).attributes).sum()

    gradient = jax.jit(jax.grad(loss))(trained)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    kernel = gradient["acoustic"]["encoder"]["transformer"]["layer_1"]["mlp_in"]["kernel"]
    assert np.abs(kernel).max() > 0


def test_distances_count_layers_from_the_top(encoders):
    distances = distances_from_top(encoders["acoustic"].params)
    assert distances["transformer"]["layer_1"]["mlp_in"]["kernel"] == 1
    assert distances["transformer"]["layer_0"]["mlp_in"]["kernel"] == 2
    assert distances["feature_projection"]["dense"]["kernel"] == 3
    stacked = {"transformer": {"layers": {"mlp_in": {"kernel": jnp.zeros((4, 2, 2))}}}, "embed": {"bias": jnp.zeros(2)}}
    assert distances_from_top(stacked)["transformer"]["layers"]["mlp_in"]["kernel"] == (4, 3, 2, 1)
    assert distances_from_top(stacked)["embed"]["bias"] == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalities": ()}, r"model.modalities must"),
        ({"modalities": ("lexical", "lexical")}, "each modality once"),
        ({"fusion.kind": "erly"}, "fusion.kind must be 'early' or .* got 'erly'; did you mean 'early'"),
        ({"fusion.size": 0}, "fusion.size must"),
        ({"fusion.attention_heads": 3}, r"must divide fusion.size \(128\)"),
        ({"fusion.modality_dropout": 1.0}, "fusion.modality_dropout must"),
        ({"modalities": ("lexical",)}, r"config.model.lexical.checkpoint must"),
        ({"acoustic.layers": (1,) * 257}, r"config.model.acoustic.layers must"),
        ({"acoustic.make_store": True}, r"config.model.acoustic.store must be a folder with make_store"),
        ({"acoustic.train": "some"}, "'nothing' or 'top' or 'all'"),
        ({"acoustic.train": "all", "acoustic.store": "x"}, "config.model.acoustic.store must"),
        ({"acoustic.train": "top", "acoustic.scan_layers": True}, "config.model.acoustic.scan_layers must be False"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes, message):
    tree = default.get_config()
    for name, value in changes.items():
        tree.model.update_from_flattened_dict({name: value})
    with pytest.raises(ConfigError, match=message):
        parse_experiment(tree.to_dict())


def test_more_top_layers_than_the_encoder_has_is_an_error(encoders):
    settings = config(modalities=("acoustic",), train="top", top_layers=3)
    params = shapes_of_model(encoders, settings)
    with pytest.raises(ConfigError, match=r"config.model.acoustic.top_layers must be >= 1 and <= 2, got 3"):
        trainable_mask(params, settings)


@pytest.mark.parametrize("statistics", [False, True])
def test_attentive_pooling_equals_the_same_in_pytorch(statistics):
    rng = np.random.default_rng(0)
    frames, mask = rng.normal(size=(3, 7, 4)).astype(np.float32), np.arange(7) < np.array([[7], [4], [1]])
    module = AttentivePooling(deviation=statistics)
    variables = module.init(jax.random.key(0), jnp.asarray(frames), jnp.asarray(mask))
    found = module.apply(variables, jnp.asarray(frames), jnp.asarray(mask))
    params = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), variables["params"])
    for row in range(3):
        x = torch.tensor(frames[row, : mask[row].sum()])
        hidden = torch.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        weights = torch.softmax(hidden @ params["vector"], dim=0)
        mean = (weights * x).sum(dim=0)
        expected = [mean]
        if statistics:
            expected.append(((weights * x**2).sum(dim=0) - mean**2).clamp(min=1e-5).sqrt())
        np.testing.assert_allclose(found[row], torch.cat(expected).numpy(), atol=1e-5)


def test_late_fusion_starts_as_the_mean_of_the_modalities(encoders):
    settings = config(kind="late")
    parts = {modality: EncoderPart.of(encoders[modality]) for modality in settings.encoder_modalities}
    model = EmotionModel(settings, 4, parts)
    variables = jax.jit(model.init)(jax.random.key(1), make_batch())
    apply = functools.partial(model.apply, capture_intermediates=True, mutable=["intermediates"])
    output, state = jax.jit(apply)(variables, make_batch())
    heads = state["intermediates"]["heads"]
    mean = np.mean([heads[modality]["__call__"][0].attributes for modality in MODALITIES], axis=0)
    np.testing.assert_allclose(output.attributes, mean, atol=1e-5)
