"""Layouts of published emotion models: location of encoder, pooling, head and labels in their checkpoints."""

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
"""config.json of microsoft/wavlm-large where it differs from WavLM-base; Odyssey checkpoints do not contain it."""

_LABEL_SYNONYMS = {
    "arousal": "activation",
    "angry": "anger",
    "sad": "sadness",
    "happy": "happiness",
    "surprised": "surprise",
}
"""Labels with other names in emojax."""

_SUPPORTED = (
    "supported: a speech encoder with the head classifier.dense, classifier.out_proj on its pooled last states (e.g. "
    "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim), or with pool_model and ser_model (e.g. "
    "3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes)"
)

_UNSUPPORTED_TENSORS = r"(.*\.)?(layer_weights|projector\..*)"
"""Tensors that weight layers or project hidden states; encoder loading ignores them, but here they affect outputs."""


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """A published emotion model whose tensors have not been read.

    Attributes:
      encoder_config: `config.json` of the encoder.
      encoder: tensors of the encoder by their names in the encoder's family.
      preprocessor: content of the encoder's `preprocessor_config.json`.
      pooling: pooling of the encoder's last hidden states.
      norm: whether the embedding is layer-normalised before its activation.
      activation: activation of the embedding.
      head: published tensors by parameter path; kernels are transposed (PyTorch layout).
      labels: names of the outputs in the model's order, in emojax's spelling.
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
        """Whether the model predicts attributes rather than categories."""
        return set(self.labels) <= set(ATTRIBUTES)


@settings
class _Outputs:
    """Fields of `config.json` that describe the outputs."""

    id2label: Annotated[Mapping[str, str], MinLen(1), MaxLen(1000)]
    label2id: Mapping[str, int] | None = None
    problem_type: Literal["regression", "single_label_classification"] | None = None
    use_weighted_layer_sum: Literal[False] = False

    def __post_init__(self):
        """Checks that order and type of the outputs are unambiguous.

        Raises:
          ConfigError: naming the key.
        """
        numbers = [str(number) for number in range(len(self.id2label))]
        if set(self.id2label) != set(numbers):
            raise ConfigError(f"id2label must have the keys 0 to {len(numbers) - 1}, got {', '.join(self.id2label)}")
        for name, number in (self.label2id or {}).items():
            # transformers keeps default names here if only id2label was given.
            if self.id2label.get(str(number)) != name and not re.fullmatch(r"LABEL_\d+", name):
                raise ConfigError(f"label2id must be the inverse of id2label, got {name!r} as {number}")
        names, dimensional = self.labels, set(self.labels) & set(ATTRIBUTES)
        if len(set(names)) != len(names):
            raise ConfigError(f"id2label must have distinct names, got {', '.join(self.id2label.values())}")
        if dimensional and set(names) != set(ATTRIBUTES):
            raise ConfigError(f"id2label must be the three attributes, or categories only, got {', '.join(names)}")
        expected = "regression" if dimensional else "single_label_classification"
        if self.problem_type not in (None, expected):
            raise ConfigError(f"problem_type must be {expected!r} with {', '.join(names)}, got {self.problem_type!r}")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs in the model's order, in emojax's spelling."""
        given = [self.id2label[str(number)].strip().lower() for number in range(len(self.id2label))]
        return tuple(_LABEL_SYNONYMS.get(name, name) for name in given)


@settings
class _PooledConfig:
    """Fields of `config.json` of a model with a head on pooled hidden states."""

    pooling_mode: Literal["mean", "max", "sum"] = "mean"


@settings
class _OdysseyConfig:
    """Fields of `config.json` of an Odyssey model."""

    ssl_type: str = "microsoft/wavlm-large"
    classifier_hidden_layers: Literal[1] = 1
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
    if "ser_model.out.0.weight" in tensors:
        return _odyssey(folder, config, tensors)
    family = find_family(config)
    if family is None or family.modality != "speech":
        kind = " ".join(str(config.get(key))[:100] for key in ("model_type", "architectures") if config.get(key))
        raise CheckpointError(f"{folder}: is not a speech model ({kind or 'no model_type'}); {_SUPPORTED}")
    if "classifier.dense.weight" in tensors and "classifier.out_proj.weight" in tensors:
        return _pooled(folder, config, tensors)
    raise CheckpointError(f"{folder}: unsupported emotion model; {_SUPPORTED}")


def _pooled(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> PublishedModel:
    """Reads the layout of Wagner et al. 2023: mean (or maximum, or sum) of the last states, dense, tanh, projection."""
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
    """Reads the layout of Goncalves et al. 2024: attentive statistics, dense, layer norm, ReLU, projection."""
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


def _read(cls: type[Any], folder: Path, config: Mapping[str, Any]) -> Any:
    path = str(folder / "config.json")
    return parse(cls, config, path, error=CheckpointError, unknown="ignore", missing="default")


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


def _size(tensors: Mapping[str, StoredTensor], bias: str) -> int:
    """Returns the number of units of a layer, from its bias; 0 if the bias is missing or not a vector."""
    shape = tensors[bias].shape if bias in tensors else ()
    return shape[0] if len(shape) == 1 else 0


def _head(
    folder: Path,
    tensors: Mapping[str, StoredTensor],
    expected: Mapping[str, tuple[str, tuple[int, ...]]],
    encoder: Mapping[str, StoredTensor],
) -> dict[str, StoredTensor]:
    """Selects the tensors of a head by path, and checks that no other tensor is outside the encoder."""
    for name, shape in expected.values():
        if name not in tensors:
            raise CheckpointError(f"{folder}: {name} is missing")
        found = tensors[name]
        if tuple(found.shape) != shape or found.dtype.name not in FLOATS:
            raise CheckpointError(
                f"{folder}: {name} must be floating-point of shape {shape}, "
                f"got {found.dtype.name} of shape {found.shape}"
            )
    known = {name for name, _ in expected.values()} | set(encoder)
    unused = sorted(set(tensors) - known) + sorted(name for name in encoder if re.fullmatch(_UNSUPPORTED_TENSORS, name))
    if unused:
        raise CheckpointError(f"{folder}: has {unused[0]}, which is not supported; {_SUPPORTED}")
    return {path: tensors[name] for path, (name, _) in expected.items()}


def output_order(model: PublishedModel) -> np.ndarray:
    """Returns the index in the published model of each output of the workdir's model."""
    names = ATTRIBUTES if model.dimensional else model.labels
    return np.array([model.labels.index(name) for name in names])
