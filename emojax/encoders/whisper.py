"""The family `whisper` (Radford et al. 2023), encoder only: keys of `config.json`, published tensor names."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.encoders.families import (
    ComputeOptions,
    Family,
    LayerCount,
    Rate,
    Size,
    Width,
    check_heads,
    parse_published,
)
from emojax.encoders.layers import ActivationName
from emojax.encoders.parameters import AxesTable
from emojax.encoders.speech_encoder import SPEECH_AXES
from emojax.encoders.tensor_table import Ignored, Rule, TensorTable, dense_rules, norm_rules
from emojax.encoders.whisper_encoder import WhisperConfig, WhisperEncoder
from emojax.encoders.whisper_inputs import WhisperInputs
from emojax.errors import ConfigError
from emojax.schema import Ge, Le, settings

_EPSILON = 1e-5
"""PyTorch's default, which the published models keep in every layer norm."""


@settings
class PublishedWhisperConfig:
    """Keys of `config.json` that the encoder reads; defaults are transformers'.

    `scale_embedding` concerns the token embeddings of the decoder only.
    """

    model_type: Literal["whisper"]
    d_model: Width = 384
    encoder_layers: LayerCount = 4
    encoder_attention_heads: Size = 6
    encoder_ffn_dim: Size = 1536
    num_mel_bins: Literal[80, 128] = 80
    max_source_positions: Annotated[int, Ge(50), Le(1500)] = 1500
    activation_function: ActivationName = "gelu"
    dropout: Rate = 0.0
    activation_dropout: Rate = 0.0
    attention_dropout: Rate = 0.0
    encoder_layerdrop: Rate = 0.0
    apply_spec_augment: Literal[False] = False
    quantization_config: Literal[None] = None

    def __post_init__(self):
        """Checks sizes against each other.

        Raises:
          ConfigError: naming the key and what is allowed.
        """
        check_heads(self.encoder_attention_heads, self.d_model, "encoder_attention_heads", "d_model")
        if self.d_model % 2 or self.d_model < 4:
            raise ConfigError(f"d_model must be an even number >= 4 (sinusoidal positions), got {self.d_model}")


_IGNORED = (
    Ignored(r"decoder[./].*|proj_out\.weight", "decoder and its output layer, which hidden states do not depend on"),
    Ignored(r".*/linear_0/key/bias", "zeros of CTranslate2; a bias of all keys would not change attention"),
    Ignored(r"(projector|classifier)\..*|layer_weights", "classification heads"),
)

_DENSE = (
    ("self_attn.q_proj", "attention/query"),
    ("self_attn.v_proj", "attention/value"),
    ("self_attn.out_proj", "attention/output"),
    ("fc1", "mlp_in"),
    ("fc2", "mlp_out"),
)

_AXES: AxesTable = (
    *SPEECH_AXES,
    (r"feature_encoder/conv_\d/kernel", (None, None, "embed")),
    (r"feature_encoder/conv_\d/bias", ("embed",)),
    (r"feature_encoder/sinusoids", (None, "embed")),
)


def _tensor_table(config: Mapping[str, Any], scan_layers: bool) -> TensorTable:
    layer = "transformer/layers[{layer}]" if scan_layers else "transformer/layer_{layer}"
    published = "encoder.layers.{layer}"
    dense = [dense_rules(f"{published}.{name}", f"{layer}/{path}") for name, path in _DENSE]
    rules = (
        Rule("encoder.conv1.weight", "feature_encoder/conv_0/kernel", "conv1d"),
        Rule("encoder.conv1.bias", "feature_encoder/conv_0/bias"),
        Rule("encoder.conv2.weight", "feature_encoder/conv_1/kernel", "conv1d"),
        Rule("encoder.conv2.bias", "feature_encoder/conv_1/bias"),
        Rule("encoder.embed_positions.weight", "feature_encoder/sinusoids"),
        *(rule for pair in dense for rule in pair),
        Rule(f"{published}.self_attn.k_proj.weight", f"{layer}/attention/key/kernel", "linear"),
        *norm_rules(f"{published}.self_attn_layer_norm", f"{layer}/attention_norm"),
        *norm_rules(f"{published}.final_layer_norm", f"{layer}/mlp_norm"),
        *norm_rules("encoder.layer_norm", "transformer/norm"),
    )
    return TensorTable(((r"^model\.", ""),), (*rules, *_ctranslate2_rules(layer)), _IGNORED)


def _ctranslate2_rules(layer: str) -> tuple[Rule, ...]:
    """Makes the rules of the variables of a CTranslate2 model."""
    published = "encoder/layer_{layer}"
    attention = f"{published}/self_attention"
    dense = (
        (f"{attention}/linear_0/query", f"{layer}/attention/query"),
        (f"{attention}/linear_0/value", f"{layer}/attention/value"),
        (f"{attention}/linear_1", f"{layer}/attention/output"),
        (f"{published}/ffn/linear_0", f"{layer}/mlp_in"),
        (f"{published}/ffn/linear_1", f"{layer}/mlp_out"),
    )
    norms = (
        (f"{attention}/layer_norm", f"{layer}/attention_norm"),
        (f"{published}/ffn/layer_norm", f"{layer}/mlp_norm"),
        ("encoder/layer_norm", "transformer/norm"),
    )
    return (
        *(Rule(f"encoder/conv{n + 1}/weight", f"feature_encoder/conv_{n}/kernel", "conv1d") for n in range(2)),
        *(Rule(f"encoder/conv{n + 1}/bias", f"feature_encoder/conv_{n}/bias") for n in range(2)),
        Rule("encoder/position_encodings/encodings", "feature_encoder/sinusoids"),
        *(Rule(f"{name}/weight", f"{path}/kernel", "linear") for name, path in dense),
        *(Rule(f"{name}/bias", f"{path}/bias") for name, path in dense),
        Rule(f"{attention}/linear_0/key/weight", f"{layer}/attention/key/kernel", "linear"),
        *(Rule(f"{name}/gamma", f"{path}/scale") for name, path in norms),
        *(Rule(f"{name}/beta", f"{path}/bias") for name, path in norms),
    )


def _build_module(config: Mapping[str, Any], names: frozenset[str], options: ComputeOptions) -> WhisperEncoder:
    published: PublishedWhisperConfig = parse_published(PublishedWhisperConfig, config)
    sizes = WhisperConfig(
        hidden_size=published.d_model,
        num_layers=published.encoder_layers,
        num_heads=published.encoder_attention_heads,
        intermediate_size=published.encoder_ffn_dim,
        activation=published.activation_function,
        norm_first=True,
        layer_norm_epsilon=_EPSILON,
        key_bias=False,
        hidden_dropout=published.dropout,
        attention_output_dropout=True,
        activation_dropout=published.activation_dropout,
        attention_dropout=published.attention_dropout,
        layer_drop=published.encoder_layerdrop,
        drop_first_layer=True,
        num_bands=published.num_mel_bins,
        max_frames=published.max_source_positions,
    )
    return WhisperEncoder(sizes, options.dtype, options.remat, options.scan_layers, options.remat_saves)


FAMILIES = {
    "whisper": Family(
        model_type="whisper",
        architecture="WhisperModel",
        settings=PublishedWhisperConfig,
        inputs=WhisperInputs,
        build_module=_build_module,
        tensor_table=_tensor_table,
        axes=_AXES,
        layers_key="encoder_layers",
    )
}
