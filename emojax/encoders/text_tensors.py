"""The families `bert` and `roberta`: published tensor names, supported configuration keys, logical axes."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.encoders.activations import ActivationName
from emojax.encoders.family import ComputeOptions, Family, LayerCount, Rate, Size, Width, check_heads
from emojax.encoders.tensor_table import Ignored, Rule, TensorTable
from emojax.encoders.text_encoder import TextTransformer, TextTransformerConfig
from emojax.errors import CheckpointError, ConfigError
from emojax.schema import Ge, Gt, Le, MaxLen, parse, settings

_EMBEDDING_RULES = (
    Rule("embeddings.word_embeddings.weight", "embeddings/token/embedding"),
    Rule("embeddings.position_embeddings.weight", "embeddings/position/embedding"),
    Rule("embeddings.token_type_embeddings.weight", "embeddings/token_type/embedding"),
    Rule("embeddings.LayerNorm.weight", "embeddings/norm/scale"),
    Rule("embeddings.LayerNorm.bias", "embeddings/norm/bias"),
    Rule("pooler.dense.weight", "pooler/kernel", "linear"),
    Rule("pooler.dense.bias", "pooler/bias"),
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

_IGNORED = (
    Ignored(r"embeddings\.(position_ids|token_type_ids)", "constant index buffers of older transformers versions"),
    Ignored(r"cls\..*", "BERT's masked-language-model and next-sentence heads"),
    Ignored(r"lm_head\..*", "RoBERTa's language-model head"),
    Ignored(r"(classifier|qa_outputs)\..*", "task heads: classification, tagging, multiple choice, question answering"),
)

_AXES = (
    (r"embeddings/token/embedding", ("vocab", "embed")),
    (r"embeddings/(position|token_type)/embedding", (None, "embed")),
    (r".*norm/(scale|bias)", ("embed",)),
    (r".*/attention/(query|key|value)/kernel", ("embed", "heads")),
    (r".*/attention/(query|key|value)/bias", ("heads",)),
    (r".*/attention/output/kernel", ("heads", "embed")),
    (r".*/mlp_in/kernel", ("embed", "mlp")),
    (r".*/mlp_in/bias", ("mlp",)),
    (r".*/mlp_out/kernel", ("mlp", "embed")),
    (r".*/(attention/output|mlp_out)/bias", ("embed",)),
    (r"pooler/kernel", ("embed", None)),
    (r"pooler/bias", (None,)),
)


@settings
class PublishedTextConfig:
    """What is read of the `config.json` of a BERT or RoBERTa, by its names."""

    model_type: Literal["bert", "roberta"]
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
        """Checks what sizes say of each other.

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
        """Row of the position table the first token takes; RoBERTa begins behind the padding token's."""
        if self.model_type == "bert":
            return 0
        return (1 if self.pad_token_id is None else self.pad_token_id) + 1


def _table(scan_layers: bool) -> TensorTable:
    layer = "layers[{layer}]" if scan_layers else "layer_{layer}"
    rules = [*_EMBEDDING_RULES]
    for published, path in _LAYER_DENSE:
        rules.append(Rule(f"encoder.layer.{{layer}}.{published}.weight", f"{layer}/{path}/kernel", "linear"))
        rules.append(Rule(f"encoder.layer.{{layer}}.{published}.bias", f"{layer}/{path}/bias"))
    for published, path in _LAYER_NORMS:
        rules.append(Rule(f"encoder.layer.{{layer}}.{published}.weight", f"{layer}/{path}/scale"))
        rules.append(Rule(f"encoder.layer.{{layer}}.{published}.bias", f"{layer}/{path}/bias"))
    renames = (
        (r"^(bert|roberta)\.", ""),
        # The first BERT checkpoints came from TensorFlow and kept its names.
        (r"\.LayerNorm\.gamma$", ".LayerNorm.weight"),
        (r"\.LayerNorm\.beta$", ".LayerNorm.bias"),
    )
    return TensorTable(renames, tuple(rules), _IGNORED)


def _build_module(config: Mapping[str, Any], names: frozenset[str], options: ComputeOptions) -> TextTransformer:
    found = parse(
        PublishedTextConfig, config, "config.json", error=CheckpointError, unknown="ignore", missing="default"
    )
    sizes = TextTransformerConfig(
        vocab_size=found.vocab_size,
        hidden_size=found.hidden_size,
        num_layers=found.num_hidden_layers,
        num_heads=found.num_attention_heads,
        intermediate_size=found.intermediate_size,
        activation=found.hidden_act,
        max_positions=found.max_position_embeddings,
        first_position=found.first_position,
        num_token_types=found.type_vocab_size,
        layer_norm_epsilon=found.layer_norm_eps,
        hidden_dropout=found.hidden_dropout_prob,
        attention_dropout=found.attention_probs_dropout_prob,
        pooler=any(name.startswith("pooler.") for name in names),
    )
    return TextTransformer(sizes, options.dtype, options.remat, options.scan_layers)


def _family(model_type: str, architecture: str) -> Family:
    return Family(
        model_type=model_type,
        modality="text",
        architecture=architecture,
        build_module=_build_module,
        tensor_table=lambda _, scan: _table(scan),
        axes=_AXES,
        settings=PublishedTextConfig,
    )


TEXT_FAMILIES = {"bert": _family("bert", "BertModel"), "roberta": _family("roberta", "RobertaModel")}
"""`model_type` -> family of each text encoder."""
