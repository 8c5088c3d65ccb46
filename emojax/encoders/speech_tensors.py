"""The families `hubert`, `wav2vec2`, `wavlm`: published tensor names, supported configuration keys, logical axes."""

from collections.abc import Mapping
from typing import Any

from emojax.encoders.tensor_table import Ignored, Rule, TensorTable

_LAYER_DENSE = (
    ("attention.q_proj", "attention/query"),
    ("attention.k_proj", "attention/key"),
    ("attention.v_proj", "attention/value"),
    ("attention.out_proj", "attention/output"),
    ("attention.gru_rel_pos_linear", "attention/gate/dense"),
    ("feed_forward.intermediate_dense", "mlp_in"),
    ("feed_forward.output_dense", "mlp_out"),
)

_LAYER_NORMS = (
    ("layer_norm", "attention_norm"),
    ("final_layer_norm", "mlp_norm"),
)

_POSITION = "transformer/positional_convolution"

_RULES = (
    Rule("feature_extractor.conv_layers.{conv}.conv.weight", "feature_encoder/conv_{conv}/conv/kernel", "conv1d"),
    Rule("feature_extractor.conv_layers.{conv}.conv.bias", "feature_encoder/conv_{conv}/conv/bias"),
    Rule("feature_extractor.conv_layers.{conv}.layer_norm.weight", "feature_encoder/conv_{conv}/norm/scale"),
    Rule("feature_extractor.conv_layers.{conv}.layer_norm.bias", "feature_encoder/conv_{conv}/norm/bias"),
    Rule("feature_projection.layer_norm.weight", "feature_projection/norm/scale"),
    Rule("feature_projection.layer_norm.bias", "feature_projection/norm/bias"),
    Rule("feature_projection.projection.weight", "feature_projection/dense/kernel", "linear"),
    Rule("feature_projection.projection.bias", "feature_projection/dense/bias"),
    Rule("masked_spec_embed", "mask_embedding"),
    Rule("encoder.pos_conv_embed.conv.bias", f"{_POSITION}/bias"),
    Rule("encoder.layer_norm.weight", "transformer/norm/scale"),
    Rule("encoder.layer_norm.bias", "transformer/norm/bias"),
    Rule("encoder.layers.0.attention.rel_attn_embed.weight", "transformer/relative_position/embedding"),
)

_WEIGHT_NORM_RULES = (
    # PyTorch's present naming first: it is the one used for export.
    Rule(
        (
            "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
            "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
        ),
        f"{_POSITION}/kernel",
        "weight_norm_conv1d",
    ),
    Rule(
        ("encoder.pos_conv_embed.conv.weight_g", "encoder.pos_conv_embed.conv.weight_v"),
        f"{_POSITION}/kernel",
        "weight_norm_conv1d",
    ),
)

_BATCH_NORM_RULES = (
    Rule("encoder.pos_conv_embed.conv.weight", f"{_POSITION}/kernel", "conv1d"),
    Rule("encoder.pos_conv_embed.batch_norm.weight", f"{_POSITION}/batch_norm/scale"),
    Rule("encoder.pos_conv_embed.batch_norm.bias", f"{_POSITION}/batch_norm/bias"),
    Rule("encoder.pos_conv_embed.batch_norm.running_mean", f"{_POSITION}/batch_norm/mean"),
    Rule("encoder.pos_conv_embed.batch_norm.running_var", f"{_POSITION}/batch_norm/variance"),
)

_IGNORED = (
    Ignored(r"lm_head\..*", "CTC head; `load_recognizer` reads it"),
    Ignored(r"quantizer\..*|project_hid\..*|project_q\..*", "wav2vec 2.0's and WavLM's pre-training heads"),
    Ignored(r"(projector|classifier)\..*|layer_weights", "classification heads"),
    Ignored(r"(tdnn|objective)\..*|feature_extractor\.(weight|bias)", "speaker verification heads"),
    Ignored(r"encoder\.pos_conv_embed\.batch_norm\.num_batches_tracked", "counter of PyTorch's batch norm"),
)

SPEECH_AXES = (
    (r"feature_encoder/conv_\d+/conv/kernel", (None, None, "conv")),
    (r"feature_encoder/conv_\d+/conv/bias", ("conv",)),
    (r"feature_encoder/conv_\d+/norm/(scale|bias)", ("conv",)),
    (r"feature_projection/norm/(scale|bias)", (None,)),
    (r"feature_projection/dense/kernel", (None, "embed")),
    (r"feature_projection/dense/bias", ("embed",)),
    (r"mask_embedding", ("embed",)),
    (r"transformer/positional_convolution/kernel", (None, None, "embed")),
    (r"transformer/positional_convolution/(bias|batch_norm/(scale|bias|mean|variance))", ("embed",)),
    (r"transformer/relative_position/embedding", (None, None)),
    (r"transformer/(.*/)?(attention_|mlp_)?norm/(scale|bias)", ("embed",)),
    (r".*/attention/(query|key|value)/kernel", ("embed", "heads")),
    (r".*/attention/(query|key|value)/bias", ("heads",)),
    (r".*/attention/output/kernel", ("heads", "embed")),
    (r".*/attention/gate/dense/kernel", (None, None)),
    (r".*/attention/gate/dense/bias", (None,)),
    (r".*/attention/gate/constant", (None, None, None, None)),
    (r".*/mlp_in/kernel", ("embed", "mlp")),
    (r".*/mlp_in/bias", ("mlp",)),
    (r".*/mlp_out/kernel", ("mlp", "embed")),
    (r".*/(attention/output|mlp_out)/bias", ("embed",)),
)
"""Logical axes of every parameter; `conv` is the width of the feature encoder."""


def speech_tensor_table(config: Mapping[str, Any], scan_layers: bool) -> TensorTable:
    """The table of a checkpoint with this `config.json`.

    Args:
      config: content of `config.json`.
      scan_layers: whether the parameters of the transformer layers are stacked.
    """
    layer = "transformer/layers[{layer}]" if scan_layers else "transformer/layer_{layer}"
    position = _BATCH_NORM_RULES if config.get("conv_pos_batch_norm") else _WEIGHT_NORM_RULES
    rules = [
        *_RULES,
        *position,
        Rule("encoder.layers.{layer}.attention.gru_rel_pos_const", f"{layer}/attention/gate/constant"),
    ]
    for published, path in _LAYER_DENSE:
        rules.append(Rule(f"encoder.layers.{{layer}}.{published}.weight", f"{layer}/{path}/kernel", "linear"))
        rules.append(Rule(f"encoder.layers.{{layer}}.{published}.bias", f"{layer}/{path}/bias"))
    for published, path in _LAYER_NORMS:
        rules.append(Rule(f"encoder.layers.{{layer}}.{published}.weight", f"{layer}/{path}/scale"))
        rules.append(Rule(f"encoder.layers.{{layer}}.{published}.bias", f"{layer}/{path}/bias"))
    return TensorTable(((r"^(hubert|wav2vec2|wavlm)\.", ""),), tuple(rules), _IGNORED)
