"""The families `bert` and `roberta`: published tensor names, supported configuration keys, logical axes."""

from collections.abc import Mapping
from typing import Any

from emojax.encoders.activations import ACTIVATIONS
from emojax.encoders.family import ComputeOptions, Family
from emojax.encoders.tensor_table import Ignored, Rule, TensorTable
from emojax.encoders.text_transformer import TextTransformer, TextTransformerConfig
from emojax.errors import CheckpointError

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

_SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": tuple(ACTIVATIONS),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}


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


def _config(config: Mapping[str, Any], names: frozenset[str], first_position: int) -> TextTransformerConfig:
    def size(key: str) -> int:
        value = config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"config.json: {key}: {value!r} is not allowed; allowed: an integer >= 1")
        return value

    if size("hidden_size") % size("num_attention_heads"):
        raise CheckpointError(
            f"config.json: num_attention_heads: {size('num_attention_heads')} is not allowed; allowed: a divisor of "
            f"hidden_size ({size('hidden_size')})"
        )
    return TextTransformerConfig(
        vocab_size=size("vocab_size"),
        hidden_size=size("hidden_size"),
        num_layers=size("num_hidden_layers"),
        num_heads=size("num_attention_heads"),
        intermediate_size=size("intermediate_size"),
        activation=config.get("hidden_act", "gelu"),
        max_positions=size("max_position_embeddings"),
        first_position=first_position,
        num_token_types=size("type_vocab_size"),
        layer_norm_epsilon=float(config.get("layer_norm_eps", 1e-12)),
        hidden_dropout=float(config.get("hidden_dropout_prob", 0.1)),
        attention_dropout=float(config.get("attention_probs_dropout_prob", 0.1)),
        pooler=any(name.startswith("pooler.") for name in names),
    )


def _build_bert(config: Mapping[str, Any], names: frozenset[str], options: ComputeOptions) -> TextTransformer:
    return TextTransformer(_config(config, names, 0), options.dtype, options.remat, options.scan_layers)


def _build_roberta(config: Mapping[str, Any], names: frozenset[str], options: ComputeOptions) -> TextTransformer:
    first_position = config.get("pad_token_id", 1) + 1
    return TextTransformer(_config(config, names, first_position), options.dtype, options.remat, options.scan_layers)


TEXT_FAMILIES = {
    "bert": Family("bert", "text", "BertModel", _build_bert, lambda _, scan: _table(scan), _AXES, _SUPPORTED),
    "roberta": Family(
        "roberta", "text", "RobertaModel", _build_roberta, lambda _, scan: _table(scan), _AXES, _SUPPORTED
    ),
}
