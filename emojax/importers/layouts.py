"""Layouts of published emotion models: location of encoder, pooling, head and labels in their checkpoints."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from emojax.encoders.families import Family, family_of
from emojax.encoders.waveform_inputs import WaveformInputs, parse_waveform_settings
from emojax.encoders.weight_files import StoredTensor
from emojax.errors import CheckpointError
from emojax.files import read_json_object
from emojax.importers.published_model import Outputs, PublishedModel, num_units, read_fields, select_head
from emojax.importers.standard_heads import read_standard
from emojax.schema import Gt, settings

_WAVLM_LARGE = {
    "model_type": "wavlm",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_buckets": 320,
    "max_bucket_distance": 800,
}
"""config.json of microsoft/wavlm-large where it differs from WavLM-base; Odyssey checkpoints do not contain it."""


@settings
class _PooledConfig:
    """Fields of `config.json` of a model with a head on pooled hidden states."""

    pooling_mode: Literal["mean", "max", "sum"] = "mean"
    use_weighted_layer_sum: Literal[False] = False


@settings
class _OdysseyConfig:
    """Fields of `config.json` of an Odyssey model."""

    ssl_type: str = "microsoft/wavlm-large"
    classifier_hidden_layers: Literal[1] = 1
    use_weighted_layer_sum: Literal[False] = False
    sampling_rate: int = 16_000
    mean: float = 0.0
    std: Annotated[float, Gt(0)] = 1.0


def read_published(folder: Path, tensors: Mapping[str, StoredTensor]) -> PublishedModel:
    """Determines the layout of a checkpoint.

    Args:
      folder: folder with `config.json`.
      tensors: tensors of the weight file.

    Raises:
      CheckpointError: the layout is not supported, or the checkpoint is incomplete.
    """
    config = read_json_object(folder / "config.json")
    if any(name.startswith("ser_model.") for name in tensors):
        return _odyssey(folder, config, tensors)
    family = family_of(config, str(folder / "config.json"))
    custom = {"classifier.dense.weight", "classifier.out_proj.weight"} <= set(tensors)
    if family.modality == "speech" and custom and family.model_type != "whisper":  # which pads its clips
        return _pooled(folder, config, tensors, family)
    return read_standard(folder, config, tensors, family)


def _pooled(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor], family: Family
) -> PublishedModel:
    """Reads the layout of Wagner et al. 2023: mean (or maximum, or sum) of the last states, dense, tanh, projection."""
    outputs, settings = read_fields(Outputs, folder, config), read_fields(_PooledConfig, folder, config)
    size, states = num_units(tensors, "classifier.dense.bias"), config.get("hidden_size", 768)
    head = {
        "acoustic_network/embedding/kernel": ("classifier.dense.weight", (size, states)),
        "acoustic_network/embedding/bias": ("classifier.dense.bias", (size,)),
        "output/kernel": ("classifier.out_proj.weight", (len(outputs.labels), size)),
        "output/bias": ("classifier.out_proj.bias", (len(outputs.labels),)),
    }
    encoder = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}
    return PublishedModel(
        encoder_config=config,
        encoder=encoder,
        inputs=functools.partial(family.inputs.read, folder),
        pooling=settings.pooling_mode,
        activation="tanh",
        head=select_head(folder, tensors, head, encoder),
        labels=outputs.names,
    )


def _odyssey(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> PublishedModel:
    """Reads the layout of Goncalves et al. 2024: attentive statistics, dense, layer norm, ReLU, projection."""
    outputs, settings = read_fields(Outputs, folder, config), read_fields(_OdysseyConfig, folder, config)
    backbone = _backbone(folder, settings.ssl_type)
    size, states = num_units(tensors, "ser_model.fc.0.0.bias"), backbone.get("hidden_size", 768)
    head = {
        "acoustic_network/attention/hidden/kernel": ("pool_model.sap_linear.weight", (states, states)),
        "acoustic_network/attention/hidden/bias": ("pool_model.sap_linear.bias", (states,)),
        "acoustic_network/attention/vector": ("pool_model.attention", (states, 1)),
        "acoustic_network/embedding/kernel": ("ser_model.fc.0.0.weight", (size, 2 * states)),
        "acoustic_network/embedding/bias": ("ser_model.fc.0.0.bias", (size,)),
        "acoustic_network/norm/scale": ("ser_model.fc.0.1.weight", (size,)),
        "acoustic_network/norm/bias": ("ser_model.fc.0.1.bias", (size,)),
        "output/kernel": ("ser_model.out.0.weight", (len(outputs.labels), size)),
        "output/bias": ("ser_model.out.0.bias", (len(outputs.labels),)),
    }
    content = {
        "sampling_rate": settings.sampling_rate,
        "feature_size": 1,
        "do_normalize": False,
        "waveform_mean": settings.mean,
        "waveform_std": settings.std,
    }
    parse_waveform_settings(content, str(folder / "config.json"))
    encoder = {name: tensor for name, tensor in tensors.items() if name.startswith("ssl_model.")}
    return PublishedModel(
        encoder_config=backbone,
        encoder={name.removeprefix("ssl_model."): tensor for name, tensor in encoder.items()},
        inputs=functools.partial(WaveformInputs.of, content=content),
        pooling="attentive_statistics",
        norm=True,
        activation="relu",
        head=select_head(folder, tensors, head, encoder),
        labels=outputs.names,
    )


def _backbone(folder: Path, name: str) -> Mapping[str, Any]:
    """Returns the config of the encoder: from a folder inside the checkpoint, or that of WavLM-large."""
    inside = (folder / name).resolve()
    if inside.is_relative_to(folder.resolve()) and (inside / "config.json").is_file():
        config = read_json_object(inside / "config.json")
        family = family_of(config, str(inside / "config.json"))
        if family.modality != "speech":
            raise CheckpointError(
                f"{inside / 'config.json'}: model_type must be a speech encoder, got {family.model_type!r}"
            )
        return config
    if name != "microsoft/wavlm-large":
        path = folder / "config.json"
        raise CheckpointError(
            f"{path}: ssl_type must be 'microsoft/wavlm-large' or a folder in the checkpoint, got {name!r}"
        )
    return _WAVLM_LARGE
