"""Encoders without their weights: the architecture of a folder, of the hub's cache, or of a name known here."""

from pathlib import Path
from typing import Any

import flax.linen as nn

from emojax.encoders import ComputeOptions
from emojax.encoders.checkpoint_files import PACKAGE, find_folder, read_json_config
from emojax.encoders.families import family_of, keep_first_layers
from emojax.errors import CheckpointError
from emojax.models import EncoderPart

_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_LARGE_SPEECH = _LARGE | {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


def _whisper(width: int, layers: int) -> dict[str, Any]:
    sizes = {"layers": layers, "attention_heads": width // 64, "ffn_dim": 4 * width}
    return {"d_model": width} | {
        f"{part}_{key}": value for part in ("encoder", "decoder") for key, value in sizes.items()
    }


KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "facebook/hubert-base-ls960": ("hubert", {}),
    "facebook/hubert-large-ll60k": ("hubert", _LARGE_SPEECH),
    "facebook/hubert-xlarge-ll60k": (
        "hubert",
        _LARGE_SPEECH | {"hidden_size": 1280, "num_hidden_layers": 48, "intermediate_size": 5120},
    ),
    "facebook/wav2vec2-base": ("wav2vec2", {}),
    "facebook/wav2vec2-large-lv60": ("wav2vec2", _LARGE_SPEECH),
    "facebook/data2vec-audio-base": ("data2vec-audio", {}),
    "microsoft/wavlm-base-plus": ("wavlm", {}),
    "microsoft/wavlm-large": ("wavlm", _LARGE_SPEECH | {"conv_bias": False}),
    "openai/whisper-tiny.en": ("whisper", {}),
    "openai/whisper-small": ("whisper", _whisper(768, 12)),
    "openai/whisper-large-v3": ("whisper", _whisper(1280, 32) | {"num_mel_bins": 128}),
    "google-bert/bert-base-uncased": ("bert", {}),
    "google-bert/bert-large-uncased": ("bert", _LARGE),
    "FacebookAI/roberta-base": ("roberta", {"max_position_embeddings": 514, "type_vocab_size": 1}),
    "FacebookAI/roberta-large": ("roberta", _LARGE | {"max_position_embeddings": 514, "type_vocab_size": 1}),
    "FacebookAI/xlm-roberta-base": (
        "xlm-roberta",
        {"vocab_size": 250_002, "max_position_embeddings": 514, "type_vocab_size": 1},
    ),
    "distilbert/distilbert-base-uncased": ("distilbert", {}),
    "sentence-transformers/all-MiniLM-L6-v2": (
        "bert",
        {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    ),
}
"""Hub name -> `model_type` and what differs from the defaults of transformers, so that a plan needs no network."""


def describe_encoder(checkpoint: str, options: ComputeOptions, keep_layers: int = 0) -> EncoderPart:
    """Builds the module of a checkpoint from its `config.json` alone.

    Args:
      checkpoint: folder with a `config.json`, `package:NAME/FOLDER`, or a name on the hub.
      options: dtype, rematerialisation and scan over layers.
      keep_layers: transformer layers that are kept, counted from the input; 0: all.

    Raises:
      CheckpointError: the folder has no `config.json`, or the name is neither in the cache nor known here.
    """
    config = keep_first_layers(_config(checkpoint), keep_layers, checkpoint)
    family = family_of(config)
    module: nn.Module = family.build_module(config, family.optional_names, options)
    sizes: Any = module.config
    return EncoderPart(module, family.inputs.of(sizes), sizes.num_layers, sizes.hidden_size, family.axes)


def _config(checkpoint: str) -> dict[str, Any]:
    folder = find_folder(checkpoint) if checkpoint.startswith(PACKAGE) else Path(checkpoint).expanduser()
    if (folder / "config.json").is_file():
        return read_json_config(folder)
    if checkpoint in KNOWN:
        import transformers

        model_type, changes = KNOWN[checkpoint]
        return dict(transformers.AutoConfig.for_model(model_type, **changes).to_dict())
    try:
        import huggingface_hub

        cached = huggingface_hub.try_to_load_from_cache(checkpoint, "config.json")
    except (ValueError, OSError):
        cached = None
    if isinstance(cached, str):
        return _config(str(Path(cached).parent))
    raise CheckpointError(
        f"{checkpoint}: unknown architecture; checkpoint must be a folder with config.json, one in the hub's "
        f"cache, or one of {', '.join(KNOWN)}"
    )
