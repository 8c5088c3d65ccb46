"""The families `hubert`, `wav2vec2` and `wavlm`: keys of `config.json`, published tensor names."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.encoders.families import ComputeOptions, Family, Size, parse_published
from emojax.encoders.speech_config import MAX_TAPS, Length, PublishedSpeechConfig, SpeechEncoderConfig
from emojax.encoders.speech_encoder import MASK_EMBEDDING, SPEECH_AXES, SPEECH_RULES, SpeechEncoder, speech_layer_rules
from emojax.encoders.speech_features import PositionalConvolution
from emojax.encoders.tensor_table import Ignored, Rule, TensorTable, dense_rules
from emojax.encoders.waveform_inputs import WaveformInputs
from emojax.errors import ConfigError
from emojax.schema import Ge, Le, settings


@settings
class PublishedHubertConfig(PublishedSpeechConfig):
    """Keys of `config.json` that are read; defaults are transformers'."""

    model_type: Literal["hubert", "wav2vec2", "wavlm"]
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_proj_layer_norm: bool = True
    do_stable_layer_norm: bool = False
    num_conv_pos_embeddings: Annotated[int, Ge(1), Le(MAX_TAPS)] = 128
    conv_pos_batch_norm: bool = False
    num_buckets: Size = 320
    max_bucket_distance: Length = 800

    def __post_init__(self):
        """Checks sizes against each other.

        Raises:
          ConfigError: naming the key and what is allowed.
        """
        super().__post_init__()
        if self.num_buckets % 4:
            raise ConfigError(f"num_buckets must be a multiple of 4, got {self.num_buckets}")


def read_hubert_config(config: Mapping[str, Any], mask_embedding: bool) -> SpeechEncoderConfig:
    """Reads sizes and options from the content of `config.json`; absent keys have transformers' default values.

    Args:
      config: content of `config.json`, its `model_type` one of hubert, wav2vec2, wavlm.
      mask_embedding: whether the checkpoint has `masked_spec_embed`.

    Raises:
      CheckpointError: naming the key, its value, and what is allowed.
    """
    published: PublishedHubertConfig = parse_published(PublishedHubertConfig, config)
    hubert, wavlm = published.model_type == "hubert", published.model_type == "wavlm"
    return SpeechEncoderConfig(
        **published.shared_sizes(published.feat_extract_norm),
        projection_norm=published.feat_proj_layer_norm if hubert else True,
        norm_first=published.do_stable_layer_norm,
        position=PositionalConvolution,
        position_taps=published.num_conv_pos_embeddings,
        position_batch_norm=published.conv_pos_batch_norm if hubert else False,
        num_buckets=published.num_buckets if wavlm else 0,
        max_distance=published.max_bucket_distance if wavlm else 0,
        mask_embedding=mask_embedding,
        # WavLM's first layer owns the relative positions in the published implementations, so it always runs.
        drop_first_layer=not wavlm,
    )


_POSITION = "transformer/positional_convolution"

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


def _tensor_table(config: Mapping[str, Any], scan_layers: bool) -> TensorTable:
    position = _BATCH_NORM_RULES if config.get("conv_pos_batch_norm") else _WEIGHT_NORM_RULES
    layer = "transformer/layers[{layer}]" if scan_layers else "transformer/layer_{layer}"
    gate = "encoder.layers.{layer}.attention.gru_rel_pos"
    rules = (
        *SPEECH_RULES,
        *speech_layer_rules(layer),
        *position,
        Rule("encoder.pos_conv_embed.conv.bias", f"{_POSITION}/bias"),
        Rule("encoder.layers.0.attention.rel_attn_embed.weight", "transformer/relative_position/embedding"),
        Rule(f"{gate}_const", f"{layer}/attention/gate/constant"),
        *dense_rules(f"{gate}_linear", f"{layer}/attention/gate/dense"),
    )
    return TensorTable(((r"^(hubert|wav2vec2|wavlm)\.", ""),), rules, _IGNORED)


def _build_module(config: Mapping[str, Any], names: frozenset[str], options: ComputeOptions) -> SpeechEncoder:
    sizes = read_hubert_config(config, MASK_EMBEDDING in names)
    return SpeechEncoder(sizes, options.dtype, options.remat, options.scan_layers, options.remat_saves)


def _family(model_type: str, architecture: str) -> Family:
    return Family(
        model_type=model_type,
        architecture=architecture,
        settings=PublishedHubertConfig,
        inputs=WaveformInputs,
        build_module=_build_module,
        tensor_table=_tensor_table,
        axes=SPEECH_AXES,
        optional_names=frozenset({MASK_EMBEDDING}),
    )


FAMILIES = {
    "hubert": _family("hubert", "HubertModel"),
    "wav2vec2": _family("wav2vec2", "Wav2Vec2Model"),
    "wavlm": _family("wavlm", "WavLMModel"),
}
