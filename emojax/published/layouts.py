"""How the emotion models that others published are laid out: where their encoder, pooling, head and labels are."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emojax.encoders.stored_tensor import StoredTensor
from emojax.errors import CheckpointError
from emojax.files import read_json_object
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


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """A published emotion model, its tensors not read yet.

    Attributes:
      encoder_config: `config.json` of its encoder.
      encoder: the encoder's tensors by the names the encoder's family gives them.
      preprocessor: `preprocessor_config.json` of its waveforms.
      pooling: of the encoder's last states.
      norm: whether the embedding is normalised before its activation.
      activation: of the embedding.
      head: published tensors by path in our parameters, as they lie there (kernels are still transposed).
      labels: names of the outputs, in their order, in our spelling.
      notes: licence and citation.
    """

    encoder_config: Mapping[str, Any]
    encoder: Mapping[str, StoredTensor]
    preprocessor: Mapping[str, Any]
    pooling: Literal["mean", "attentive_statistics"]
    norm: bool
    activation: Literal["relu", "tanh"]
    head: Mapping[str, StoredTensor]
    labels: tuple[str, ...]
    notes: Mapping[str, str]

    @property
    def dimensional(self) -> bool:
        """Whether it predicts attributes; else categories."""
        return set(self.labels) <= set(ATTRIBUTES)


def read_published(folder: Path, tensors: Mapping[str, StoredTensor]) -> PublishedModel:
    """Recognises a checkpoint.

    Args:
      folder: with its `config.json`.
      tensors: what its weight file holds.

    Raises:
      CheckpointError: it is of no layout known here, or incomplete.
    """
    config = read_json_object(folder / "config.json")
    if "ser_model.out.0.weight" in tensors:
        return _odyssey(folder, config, tensors)
    if "classifier.dense.weight" in tensors and "classifier.out_proj.weight" in tensors:
        return _audeering(folder, config, tensors)
    raise CheckpointError(
        f"{folder}: no emotion model known here; allowed: a head classifier.dense, classifier.out_proj on mean states, "
        "as audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim, or pool_model and ser_model, as "
        "3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes"
    )


def _audeering(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> PublishedModel:
    """Wagner et al. 2023: mean of the last states, dense, tanh, projection."""
    head = {
        "acoustic_network/embedding/kernel": "classifier.dense.weight",
        "acoustic_network/embedding/bias": "classifier.dense.bias",
        "output/kernel": "classifier.out_proj.weight",
        "output/bias": "classifier.out_proj.bias",
    }
    return PublishedModel(
        encoder_config=config,
        encoder={name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")},
        preprocessor=read_json_object(folder / "preprocessor_config.json"),
        pooling="mean",
        norm=False,
        activation="tanh",
        head=_tensors(folder, tensors, head),
        labels=_labels(folder, config),
        notes={
            "licence": "see the model card; published for research (CC BY-NC-SA 4.0)",
            "citation": "J. Wagner et al. Dawn of the transformer era in speech emotion recognition. IEEE TPAMI, 2023.",
        },
    )


def _odyssey(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> PublishedModel:
    """Goncalves et al. 2024: attentive statistics of the last states, dense, layer norm, ReLU, projection."""
    if any(name.startswith("ser_model.fc.1.") for name in tensors):
        raise CheckpointError(f"{folder}: its head has several hidden layers; allowed: one")
    head = {
        "acoustic_network/attention/hidden/kernel": "pool_model.sap_linear.weight",
        "acoustic_network/attention/hidden/bias": "pool_model.sap_linear.bias",
        "acoustic_network/attention/vector": "pool_model.attention",
        "acoustic_network/embedding/kernel": "ser_model.fc.0.0.weight",
        "acoustic_network/embedding/bias": "ser_model.fc.0.0.bias",
        "acoustic_network/norm/scale": "ser_model.fc.0.1.weight",
        "acoustic_network/norm/bias": "ser_model.fc.0.1.bias",
        "output/kernel": "ser_model.out.0.weight",
        "output/bias": "ser_model.out.0.bias",
    }
    return PublishedModel(
        encoder_config=_backbone(folder, str(config.get("ssl_type", "microsoft/wavlm-large"))),
        encoder={name.removeprefix("ssl_model."): t for name, t in tensors.items() if name.startswith("ssl_model.")},
        preprocessor={
            "sampling_rate": config.get("sampling_rate", 16_000),
            "feature_size": 1,
            "do_normalize": False,
            "waveform_mean": float(config.get("mean", 0.0)),
            "waveform_std": float(config.get("std", 1.0)),
        },
        pooling="attentive_statistics",
        norm=True,
        activation="relu",
        head=_tensors(folder, tensors, head),
        labels=_labels(folder, config),
        notes={
            "licence": "see the model card (MIT)",
            "citation": "L. Goncalves et al. Odyssey 2024 - Speech Emotion Recognition Challenge. Odyssey, 2024.",
        },
    )


def _backbone(folder: Path, name: str) -> Mapping[str, Any]:
    if (Path(name) / "config.json").is_file():
        return read_json_object(Path(name) / "config.json")
    if name != "microsoft/wavlm-large":
        raise CheckpointError(f"{folder}: its ssl_type is {name!r}; allowed: 'microsoft/wavlm-large' or a folder")
    return _WAVLM_LARGE


def _tensors(folder: Path, tensors: Mapping[str, StoredTensor], names: Mapping[str, str]) -> dict[str, StoredTensor]:
    absent = [name for name in names.values() if name not in tensors]
    if absent:
        raise CheckpointError(f"{folder}: lacks {absent[0]}")
    return {path: tensors[name] for path, name in names.items()}


def _labels(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    given = config.get("id2label")
    if not isinstance(given, dict):
        raise CheckpointError(f"{folder / 'config.json'}: has no id2label; the order of its outputs is not known")
    names = [str(given[key]).lower() for key in sorted(given, key=int)]
    labels = tuple(_NAMES.get(name, name) for name in names)
    dimensional = set(labels) & set(ATTRIBUTES)
    if dimensional and (len(labels) != len(ATTRIBUTES) or dimensional != set(ATTRIBUTES)):
        raise CheckpointError(f"{folder / 'config.json'}: predicts {', '.join(names)}; allowed: all three attributes")
    return labels


def our_order(model: PublishedModel) -> np.ndarray:
    """For every output of ours, the number of theirs."""
    names = ATTRIBUTES if model.dimensional else model.labels
    return np.array([model.labels.index(name) for name in names])
