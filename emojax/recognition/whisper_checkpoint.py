"""Whisper's decoder in published checkpoints: keys of `config.json`, tensor names, logical axes, loading."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from emojax.encoders.checkpoint_files import read_tensors
from emojax.encoders.families import ComputeOptions, LayerCount, Size, Width, check_heads, parse_published
from emojax.encoders.layers import ActivationName
from emojax.encoders.parameters import Axes, AxesTable, parameter_axes
from emojax.encoders.tensor_table import (
    Ignored,
    Rule,
    TensorTable,
    check_layers,
    convert,
    layer_rules,
    norm_rules,
    renamed_names,
)
from emojax.errors import CheckpointError
from emojax.recognition.whisper_decoder import WhisperDecoder, WhisperDecoderConfig
from emojax.schema import Ge, Le, settings


@settings
class PublishedDecoderConfig:
    """Keys of `config.json` that the decoder reads; defaults are transformers'."""

    model_type: Literal["whisper"]
    d_model: Width = 384
    decoder_layers: LayerCount = 4
    decoder_attention_heads: Size = 6
    decoder_ffn_dim: Size = 1536
    vocab_size: Size = 51_865
    max_target_positions: Annotated[int, Ge(4), Le(4096)] = 448
    activation_function: ActivationName = "gelu"
    scale_embedding: Literal[False] = False
    tie_word_embeddings: Literal[True] = True

    def __post_init__(self):
        """Checks sizes against each other.

        Raises:
          ConfigError: naming the key and what is allowed.
        """
        check_heads(self.decoder_attention_heads, self.d_model, "decoder_attention_heads", "d_model")


_DENSE = (
    ("self_attn.q_proj", "attention/query"),
    ("self_attn.v_proj", "attention/value"),
    ("self_attn.out_proj", "attention/output"),
    ("encoder_attn.q_proj", "cross_attention/query"),
    ("encoder_attn.v_proj", "cross_attention/value"),
    ("encoder_attn.out_proj", "cross_attention/output"),
    ("fc1", "mlp_in"),
    ("fc2", "mlp_out"),
)
_KEYS = (("self_attn.k_proj", "attention/key"), ("encoder_attn.k_proj", "cross_attention/key"))
_NORMS = (
    ("self_attn_layer_norm", "attention_norm"),
    ("encoder_attn_layer_norm", "cross_attention_norm"),
    ("final_layer_norm", "mlp_norm"),
)
# CTranslate2's names of the same layers.
_CTRANSLATE2_DENSE = (
    ("self_attention/linear_0/query", "attention/query"),
    ("self_attention/linear_0/value", "attention/value"),
    ("self_attention/linear_1", "attention/output"),
    ("attention/linear_0", "cross_attention/query"),
    ("attention/linear_1/value", "cross_attention/value"),
    ("attention/linear_2", "cross_attention/output"),
    ("ffn/linear_0", "mlp_in"),
    ("ffn/linear_1", "mlp_out"),
)
_CTRANSLATE2_KEYS = (
    ("self_attention/linear_0/key", "attention/key"),
    ("attention/linear_1/key", "cross_attention/key"),
)
_CTRANSLATE2_NORMS = (
    ("self_attention/layer_norm", "attention_norm"),
    ("attention/layer_norm", "cross_attention_norm"),
    ("ffn/layer_norm", "mlp_norm"),
)


def _decoder_table() -> TensorTable:
    """Makes the table from published names of the decoder's tensors to parameter paths."""
    published, layer, ctranslate2 = "decoder.layers.{layer}", "layer_{layer}", "decoder/layer_{layer}"
    rules = (
        Rule("decoder.embed_tokens.weight", "token_embedding"),
        Rule("decoder.embed_positions.weight", "position_embedding"),
        *layer_rules(published, layer, _DENSE, _NORMS),
        *(Rule(f"{published}.{name}.weight", f"{layer}/{path}/kernel", "linear") for name, path in _KEYS),
        *norm_rules("decoder.layer_norm", "norm"),
        Rule("decoder/embeddings/weight", "token_embedding"),
        Rule("decoder/position_encodings/encodings", "position_embedding"),
        *(
            Rule(f"{ctranslate2}/{name}/weight", f"{layer}/{path}/kernel", "linear")
            for name, path in (*_CTRANSLATE2_DENSE, *_CTRANSLATE2_KEYS)
        ),
        *(Rule(f"{ctranslate2}/{name}/bias", f"{layer}/{path}/bias") for name, path in _CTRANSLATE2_DENSE),
        *(Rule(f"{ctranslate2}/{name}/gamma", f"{layer}/{path}/scale") for name, path in _CTRANSLATE2_NORMS),
        *(Rule(f"{ctranslate2}/{name}/beta", f"{layer}/{path}/bias") for name, path in _CTRANSLATE2_NORMS),
        Rule("decoder/layer_norm/gamma", "norm/scale"),
        Rule("decoder/layer_norm/beta", "norm/bias"),
    )
    ignored = (
        Ignored(r"encoder[./].*", "encoder, which `load_encoder` reads"),
        Ignored(r"proj_out\.weight|decoder/projection/weight", "output layer, tied to the token embeddings"),
        Ignored(r"decoder/.*/linear_[01]/key/bias", "zeros of CTranslate2, without effect on attention"),
    )
    return TensorTable(((r"^model\.", ""),), rules, ignored)


DECODER_TABLE = _decoder_table()

DECODER_AXES: AxesTable = (
    (r"token_embedding", ("vocab", "embed")),
    (r"position_embedding", (None, "embed")),
    (r"(layer_\d+/\w+_)?norm/(scale|bias)", ("embed",)),
    (r"layer_\d+/(cross_)?attention/(query|key|value)/kernel", ("embed", "heads")),
    (r"layer_\d+/(cross_)?attention/(query|value)/bias", ("heads",)),
    (r"layer_\d+/(cross_)?attention/output/kernel", ("heads", "embed")),
    (r"layer_\d+/mlp_in/kernel", ("embed", "mlp")),
    (r"layer_\d+/mlp_in/bias", ("mlp",)),
    (r"layer_\d+/mlp_out/kernel", ("mlp", "embed")),
    (r"layer_\d+/((cross_)?attention/output|mlp_out)/bias", ("embed",)),
)
"""Logical axes of every parameter of the decoder."""


def build_decoder(config: Mapping[str, Any], dtype: Any, label: str = "config.json") -> WhisperDecoder:
    """Builds the decoder that a `config.json` describes.

    Args:
      config: content of `config.json`.
      dtype: type of the operands of matrix products.
      label: name of the file in error messages.

    Raises:
      CheckpointError: a key has a value that is not supported.
    """
    published: PublishedDecoderConfig = parse_published(PublishedDecoderConfig, config, label)
    sizes = WhisperDecoderConfig(
        vocab_size=published.vocab_size,
        max_tokens=published.max_target_positions,
        hidden_size=published.d_model,
        num_layers=published.decoder_layers,
        num_heads=published.decoder_attention_heads,
        intermediate_size=published.decoder_ffn_dim,
        activation=published.activation_function,
    )
    return WhisperDecoder(sizes, dtype)


def load_decoder(
    folder: Path,
    config: Mapping[str, Any],
    options: ComputeOptions,
    to_device: Callable[[np.ndarray, Axes], jax.Array] | None = None,
) -> tuple[WhisperDecoder, dict[str, Any]]:
    """Builds the decoder of a checkpoint and reads its parameters, float32.

    Args:
      folder: folder of the checkpoint.
      config: content of its `config.json`.
      options: how the module computes; rematerialisation and the scan over layers concern the encoder only.
      to_device: (values, logical axis names) -> array on its device(s); default: the default device.

    Raises:
      CheckpointError: the checkpoint has no decoder, is damaged, or does not fit its `config.json`.
    """
    module = build_decoder(config, options.dtype, str(folder / "config.json"))
    file, stored = read_tensors(folder)
    names = renamed_names(stored, DECODER_TABLE)
    if not any(name.startswith(("decoder.", "decoder/")) for name in names):
        raise CheckpointError(f"{file}: must have a decoder for recognition, has tensors of the encoder only")
    check_layers(names, DECODER_TABLE, module.config.num_layers, str(file))
    put = None
    if to_device is not None:
        put = lambda path, array: to_device(array, parameter_axes(path, array.ndim, DECODER_AXES))  # noqa: E731
    return module, convert(stored, DECODER_TABLE, decoder_shapes(module), put, label=str(file))


def decoder_shapes(module: WhisperDecoder) -> Mapping[str, Any]:
    """Computes the tree of shapes and dtypes of the decoder's parameters, without their values."""
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    states = jax.ShapeDtypeStruct((1, 1, module.config.hidden_size), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, 1), jnp.bool_)
    return jax.eval_shape(module.init, jax.random.key(0), tokens, states, mask)["params"]
