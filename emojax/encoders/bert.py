"""The families `bert`, `roberta` and `xlm-roberta` (Conneau et al. 2020): keys of `config.json`, tensor names."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.encoders.families import ComputeOptions, Family, LayerCount, Rate, Size, Width, check_heads, parse_published
from emojax.encoders.layers import ActivationName
from emojax.encoders.tensor_table import Ignored, Rule, TensorTable, dense_rules, layer_rules, norm_rules
from emojax.encoders.text_transformer import TEXT_AXES, TextTransformer, TextTransformerConfig
from emojax.encoders.token_inputs import TokenInputs
from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, MaxLen, settings


@settings
class PublishedTextConfig:
    """Keys of `config.json` that are read."""

    model_type: Literal["bert", "roberta", "xlm-roberta"]
    vocab_size: Size
    hidden_size: Width
    num_hidden_layers: LayerCount
    num_attention_heads: Size
    intermediate_size: Size
    max_position_embeddings: Size
    type_vocab_size: Size
    hidden_act: ActivationName = "gelu"
    layer_norm_eps: Annotated[float, Gt(0), Le(1)] = 1e-12
    hidden_dropout_prob: Rate = 0.1
    attention_probs_dropout_prob: Rate = 0.1
    pad_token_id: Annotated[int, Ge(0), Le(2**20)] | None = None
    position_embedding_type: Literal["absolute"] | None = None
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False
    pruned_heads: Annotated[Mapping[str, Any] | None, MaxLen(0)] = None
    quantization_config: Literal[None] = None

    def __post_init__(self):
        """Checks sizes against each other.

        Raises:
          ConfigError: naming the key and what is allowed.
        """
        check_heads(self.num_attention_heads, self.hidden_size)
        if self.max_position_embeddings <= self.first_position:
            raise ConfigError(
                f"max_position_embeddings must be > {self.first_position}, got {self.max_position_embeddings}"
            )

    @property
    def first_position(self) -> int:
        """Row of the position table for the first token; RoBERTa's begin behind the padding token's."""
        if self.model_type == "bert":
            return 0
        return (1 if self.pad_token_id is None else self.pad_token_id) + 1


_EMBEDDING_RULES = (
    Rule("embeddings.word_embeddings.weight", "embeddings/token/embedding"),
    Rule("embeddings.position_embeddings.weight", "embeddings/position/embedding"),
    Rule("embeddings.token_type_embeddings.weight", "embeddings/token_type/embedding"),
    *norm_rules("embeddings.LayerNorm", "embeddings/norm"),
    *dense_rules("pooler.dense", "pooler"),
)

_LAYER_DENSE = (
    ("attention.self.query", "attention/query"),
    ("attention.self.key", "attention/key"),
    ("attention.self.value", "attention/value"),
    ("attention.output.dense", "attention/output"),
    ("intermediate.dense", "mlp_in"),
    ("output.dense", "mlp_out"),
)

_LAYER_NORMS = (
    ("attention.output.LayerNorm", "attention_norm"),
    ("output.LayerNorm", "mlp_norm"),
)

_RENAMES = (
    (r"^(bert|roberta)\.", ""),
    # The first BERT checkpoints came from TensorFlow and kept its names.
    (r"\.LayerNorm\.gamma$", ".LayerNorm.weight"),
    (r"\.LayerNorm\.beta$", ".LayerNorm.bias"),
)

_IGNORED = (
    Ignored(r"embeddings\.(position_ids|token_type_ids)", "constant index buffers of older transformers versions"),
    Ignored(r"cls\..*", "BERT's masked-language-model and next-sentence heads"),
    Ignored(r"lm_head\..*", "RoBERTa's language-model head"),
    Ignored(r"(classifier|qa_outputs)\..*", "task heads: classification, tagging, multiple choice, question answering"),
)


def _tensor_table(config: Mapping[str, Any], scan_layers: bool) -> TensorTable:
    layer = "layers[{layer}]" if scan_layers else "layer_{layer}"
    layers = layer_rules("encoder.layer.{layer}", layer, _LAYER_DENSE, _LAYER_NORMS)
    return TensorTable(_RENAMES, (*_EMBEDDING_RULES, *layers), _IGNORED)


def _build_module(config: Mapping[str, Any], names: frozenset[str], options: ComputeOptions) -> TextTransformer:
    published = parse_published(PublishedTextConfig, config)
    sizes = TextTransformerConfig(
        vocab_size=published.vocab_size,
        hidden_size=published.hidden_size,
        num_layers=published.num_hidden_layers,
        num_heads=published.num_attention_heads,
        intermediate_size=published.intermediate_size,
        activation=published.hidden_act,
        max_positions=published.max_position_embeddings,
        first_position=published.first_position,
        num_token_types=published.type_vocab_size,
        layer_norm_epsilon=published.layer_norm_eps,
        hidden_dropout=published.hidden_dropout_prob,
        attention_output_dropout=True,
        attention_dropout=published.attention_probs_dropout_prob,
        pooler=any(name.startswith("pooler.") for name in names),
    )
    return TextTransformer(sizes, options.dtype, options.remat, options.scan_layers, options.remat_saves)


def _family(model_type: str, architecture: str) -> Family:
    return Family(
        model_type=model_type,
        architecture=architecture,
        settings=PublishedTextConfig,
        inputs=TokenInputs,
        build_module=_build_module,
        tensor_table=_tensor_table,
        axes=TEXT_AXES,
    )


FAMILIES = {
    "bert": _family("bert", "BertModel"),
    "roberta": _family("roberta", "RobertaModel"),
    "xlm-roberta": _family("xlm-roberta", "XLMRobertaModel"),
}
