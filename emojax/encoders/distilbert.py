"""The family `distilbert` (Sanh et al. 2019): keys of `config.json`, published tensor names."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.encoders.families import ComputeOptions, Family, LayerCount, Rate, Size, Width, check_heads, parse_published
from emojax.encoders.layers import ActivationName
from emojax.encoders.tensor_table import Ignored, Rule, TensorTable, layer_rules, norm_rules
from emojax.encoders.text_transformer import TEXT_AXES, TextTransformer, TextTransformerConfig
from emojax.encoders.token_inputs import TokenInputs
from emojax.schema import MaxLen, settings

_LAYER_NORM_EPSILON = 1e-12
"""Fixed in the published implementation."""


@settings
class PublishedDistilBertConfig:
    """Keys of `config.json` that are read; defaults are transformers'."""

    model_type: Literal["distilbert"]
    vocab_size: Size = 30_522
    dim: Width = 768
    n_layers: LayerCount = 6
    n_heads: Size = 12
    hidden_dim: Size = 3072
    max_position_embeddings: Size = 512
    # Concerns only the initial values of the position table, which is stored either way.
    sinusoidal_pos_embds: bool = False
    activation: ActivationName = "gelu"
    dropout: Rate = 0.1
    attention_dropout: Rate = 0.1
    pruned_heads: Annotated[Mapping[str, Any] | None, MaxLen(0)] = None
    quantization_config: Literal[None] = None

    def __post_init__(self):
        """Checks sizes against each other.

        Raises:
          ConfigError: naming the key and what is allowed.
        """
        check_heads(self.n_heads, self.dim, "n_heads", "dim")


_EMBEDDING_RULES = (
    Rule("embeddings.word_embeddings.weight", "embeddings/token/embedding"),
    Rule("embeddings.position_embeddings.weight", "embeddings/position/embedding"),
    *norm_rules("embeddings.LayerNorm", "embeddings/norm"),
)

_LAYER_DENSE = (
    ("attention.q_lin", "attention/query"),
    ("attention.k_lin", "attention/key"),
    ("attention.v_lin", "attention/value"),
    ("attention.out_lin", "attention/output"),
    ("ffn.lin1", "mlp_in"),
    ("ffn.lin2", "mlp_out"),
)

_LAYER_NORMS = (
    ("sa_layer_norm", "attention_norm"),
    ("output_layer_norm", "mlp_norm"),
)

_IGNORED = (
    Ignored(r"vocab_(transform|layer_norm|projector)\..*", "masked-language-model head"),
    Ignored(r"(pre_classifier|classifier|qa_outputs)\..*", "task heads"),
    Ignored(r"embeddings\.position_ids", "constant index buffer of older transformers versions"),
)


def _tensor_table(config: Mapping[str, Any], scan_layers: bool) -> TensorTable:
    layer = "layers[{layer}]" if scan_layers else "layer_{layer}"
    layers = layer_rules("transformer.layer.{layer}", layer, _LAYER_DENSE, _LAYER_NORMS)
    return TensorTable(((r"^distilbert\.", ""),), (*_EMBEDDING_RULES, *layers), _IGNORED)


def _build_module(config: Mapping[str, Any], names: frozenset[str], options: ComputeOptions) -> TextTransformer:
    published = parse_published(PublishedDistilBertConfig, config)
    sizes = TextTransformerConfig(
        vocab_size=published.vocab_size,
        hidden_size=published.dim,
        num_layers=published.n_layers,
        num_heads=published.n_heads,
        intermediate_size=published.hidden_dim,
        activation=published.activation,
        max_positions=published.max_position_embeddings,
        first_position=0,
        num_token_types=0,
        layer_norm_epsilon=_LAYER_NORM_EPSILON,
        hidden_dropout=published.dropout,
        attention_output_dropout=False,
        attention_dropout=published.attention_dropout,
        pooler=False,
    )
    return TextTransformer(sizes, options.dtype, options.remat, options.scan_layers, options.remat_saves)


FAMILIES = {
    "distilbert": Family(
        model_type="distilbert",
        architecture="DistilBertModel",
        settings=PublishedDistilBertConfig,
        inputs=TokenInputs,
        build_module=_build_module,
        tensor_table=_tensor_table,
        axes=TEXT_AXES,
        layers_key="n_layers",
    )
}
