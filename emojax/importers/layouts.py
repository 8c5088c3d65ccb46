"""How the emotion models that others published are laid out: where their encoder, pooling, head and labels are."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from emojax.encoders.families import family_of, find_family
from emojax.encoders.tensor_table import FLOATS
from emojax.encoders.waveform_inputs import parse_waveform_settings, read_waveform_settings
from emojax.encoders.weight_files import StoredTensor
from emojax.errors import CheckpointError, ConfigError
from emojax.files import read_json_object
from emojax.schema import Gt, MaxLen, MinLen, parse, settings
from emojax.types import ATTRIBUTES

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
"""config.json of microsoft/wavlm-large where it differs from WavLM-base; the Odyssey models name it, and lack it."""

_NAMES = {
    "arousal": "activation",
    "angry": "anger",
    "sad": "sadness",
    "happy": "happiness",
    "surprised": "surprise",
}
"""Other spellings of labels."""


_ACCEPTED = (
    "a speech encoder under a head classifier.dense, classifier.out_proj on its pooled last states, as "
    "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim, or pool_model and ser_model, as "
    "3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes"
)

_CHANGES_STATES = r"(.*\.)?(layer_weights|projector\..*)"
"""Tensors of heads that weigh layers or project states; encoders leave them out, here they would change the outputs."""


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """A published emotion model, its tensors not read yet.

    Attributes:
      encoder_config: `config.json` of its encoder.
      encoder: the encoder's tensors by the names the encoder's family gives them.
      preprocessor: content of the encoder's `preprocessor_config.json`.
      pooling: of the encoder's last states.
      norm: whether the embedding is normalised before its activation.
      activation: of the embedding.
      head: published tensors by path in our parameters, as they lie there (kernels are still transposed).
      labels: names of the outputs, in their order, in our spelling.
    """

    encoder_config: Mapping[str, Any]
    encoder: Mapping[str, StoredTensor]
    preprocessor: Mapping[str, Any]
    pooling: Literal["mean", "max", "sum", "attentive_statistics"]
    norm: bool
    activation: Literal["relu", "tanh"]
    head: Mapping[str, StoredTensor]
    labels: tuple[str, ...]

    @property
    def dimensional(self) -> bool:
        """Whether it predicts attributes; else categories."""
        return set(self.labels) <= set(ATTRIBUTES)


@settings
class _Outputs:
    """What is read of any model's `config.json` about its outputs."""

    id2label: Annotated[Mapping[str, str], MinLen(1), MaxLen(1000)]
    label2id: Mapping[str, int] | None = None
    problem_type: Literal["regression", "single_label_classification"] | None = None
    use_weighted_layer_sum: Literal[False] = False

    def __post_init__(self):
        """Checks that the outputs have one order and one meaning.

        Raises:
          ConfigError: naming the key.
        """
        numbers = [str(number) for number in range(len(self.id2label))]
        if set(self.id2label) != set(numbers):
            raise ConfigError(f"id2label must have the keys 0 to {len(numbers) - 1}, has {', '.join(self.id2label)}")
        for name, number in (self.label2id or {}).items():
            # transformers leaves its own names there where only id2label was given.
            if self.id2label.get(str(number)) != name and not re.fullmatch(r"LABEL_\d+", name):
                raise ConfigError(f"label2id must be the inverse of id2label, has {name!r} as {number}")
        names, dimensional = self.labels, set(self.labels) & set(ATTRIBUTES)
        if len(set(names)) != len(names):
            raise ConfigError(f"id2label must name every output differently, has {', '.join(self.id2label.values())}")
        if dimensional and set(names) != set(ATTRIBUTES):
            raise ConfigError(f"id2label must be all three attributes or categories alone, has {', '.join(names)}")
        expected = "regression" if dimensional else "single_label_classification"
        if self.problem_type not in (None, expected):
            raise ConfigError(f"problem_type must be {expected!r} with {', '.join(names)}, got {self.problem_type!r}")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs in their order, in our spelling."""
        given = [self.id2label[str(number)].strip().lower() for number in range(len(self.id2label))]
        return tuple(_NAMES.get(name, name) for name in given)


@settings
class _PooledConfig:
    """What is read of the `config.json` of a model with a head on pooled states."""

    pooling_mode: Literal["mean", "max", "sum"] = "mean"


@settings
class _OdysseyConfig:
    """What is read of the `config.json` of an Odyssey model."""

    ssl_type: str = "microsoft/wavlm-large"
    classifier_hidden_layers: Literal[1] = 1
    sampling_rate: int = 16_000
    mean: float = 0.0
    std: Annotated[float, Gt(0)] = 1.0


def read_published(folder: Path, tensors: Mapping[str, StoredTensor]) -> PublishedModel:
    """Recognises a checkpoint.

    Args:
      folder: with its `config.json`.
      tensors: what its weight file holds.

    Raises:
      CheckpointError: it is of no layout known here, incomplete, or computes something else than these do.
    """
    config = read_json_object(folder / "config.json")
    if "ser_model.out.0.weight" in tensors:
        return _odyssey(folder, config, tensors)
    family = find_family(config)
    if family is None or family.modality != "speech":
        kind = " ".join(str(config.get(key))[:100] for key in ("model_type", "architectures") if config.get(key))
        raise CheckpointError(f"{folder}: is no speech model ({kind or 'no model_type'}); allowed: {_ACCEPTED}")
    if "classifier.dense.weight" in tensors and "classifier.out_proj.weight" in tensors:
        return _pooled(folder, config, tensors)
    raise CheckpointError(f"{folder}: no emotion model known here; allowed: {_ACCEPTED}")


def _pooled(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> PublishedModel:
    """Wagner et al. 2023: mean (or maximum, or sum) of the last states, dense, tanh, projection."""
    outputs, settings = _read(_Outputs, folder, config), _read(_PooledConfig, folder, config)
    family_of(config, str(folder / "config.json"))
    size, states = _size(tensors, "classifier.dense.bias"), config.get("hidden_size", 768)
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
        preprocessor=read_waveform_settings(folder),
        pooling=settings.pooling_mode,
        norm=False,
        activation="tanh",
        head=_head(folder, tensors, head, encoder),
        labels=outputs.labels,
    )


def _odyssey(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> PublishedModel:
    """Goncalves et al. 2024: attentive statistics of the last states, dense, layer norm, ReLU, projection."""
    outputs, settings = _read(_Outputs, folder, config), _read(_OdysseyConfig, folder, config)
    backbone = _backbone(folder, settings.ssl_type)
    size, states = _size(tensors, "ser_model.fc.0.0.bias"), backbone.get("hidden_size", 768)
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
        preprocessor=content,
        pooling="attentive_statistics",
        norm=True,
        activation="relu",
        head=_head(folder, tensors, head, encoder),
        labels=outputs.labels,
    )


def _read(kind: type[Any], folder: Path, config: Mapping[str, Any]) -> Any:
    place = str(folder / "config.json")
    return parse(kind, config, place, error=CheckpointError, unknown="ignore", missing="default")


def _backbone(folder: Path, name: str) -> Mapping[str, Any]:
    """The config of the encoder: one that lies within the checkpoint's own folder, or the one known here."""
    inside = (folder / name).resolve()
    if inside.is_relative_to(folder.resolve()) and (inside / "config.json").is_file():
        config = read_json_object(inside / "config.json")
        family = family_of(config, str(inside / "config.json"))
        if family.modality != "speech":
            raise CheckpointError(f"{inside / 'config.json'}: model_type must be a speech encoder's")
        return config
    if name != "microsoft/wavlm-large":
        place = folder / "config.json"
        raise CheckpointError(f"{place}: ssl_type must be 'microsoft/wavlm-large' or a folder in it, got {name!r}")
    return _WAVLM_LARGE


def _size(tensors: Mapping[str, StoredTensor], bias: str) -> int:
    """Units of a layer: the length of its bias; 0 if that is not there, or no vector."""
    shape = tensors[bias].shape if bias in tensors else ()
    return shape[0] if len(shape) == 1 else 0


def _head(
    folder: Path,
    tensors: Mapping[str, StoredTensor],
    wanted: Mapping[str, tuple[str, tuple[int, ...]]],
    encoder: Mapping[str, StoredTensor],
) -> dict[str, StoredTensor]:
    """The tensors of a head by path, after checking that there is nothing else outside the encoder."""
    for name, shape in wanted.values():
        if name not in tensors:
            raise CheckpointError(f"{folder}: lacks {name}")
        found = tensors[name]
        if tuple(found.shape) != shape or found.dtype.name not in FLOATS:
            raise CheckpointError(
                f"{folder}: {name} must be floating-point of shape {shape}, is {found.dtype.name} of {found.shape}"
            )
    known = {name for name, _ in wanted.values()} | set(encoder)
    unused = sorted(set(tensors) - known) + sorted(name for name in encoder if re.fullmatch(_CHANGES_STATES, name))
    if unused:
        raise CheckpointError(f"{folder}: has {unused[0]}, which this head does not use; allowed: {_ACCEPTED}")
    return {path: tensors[name] for path, (name, _) in wanted.items()}


def our_order(model: PublishedModel) -> np.ndarray:
    """For every output of ours, the number of theirs."""
    names = ATTRIBUTES if model.dimensional else model.labels
    return np.array([model.labels.index(name) for name in names])
