"""Classification heads of transformers: a dense layer on pooled hidden states, then one for the labels."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from emojax.encoders.checkpoint_files import weight_file
from emojax.encoders.families import ComputeOptions, Family
from emojax.encoders.weight_files import StoredTensor
from emojax.errors import CheckpointError, ConfigError
from emojax.importers.published_model import (
    SUPPORTED,
    Outputs,
    PublishedModel,
    num_units,
    read_fields,
    select_head,
)
from emojax.schema import settings


@dataclasses.dataclass(frozen=True)
class Head:
    """One `*ForSequenceClassification` of transformers, or `WhisperForAudioClassification`.

    Attributes:
      prefix: beginning of the names of the encoder's tensors.
      dense: name of the dense layer whose output is the embedding.
      activation: activation of the embedding.
      output: name of the layer from the embedding to the labels.
      pooling: pooling of the hidden states.
      suffix: end of the class's name.
      padded: whether clips are padded to the encoder's longest input, and all frames pooled.
    """

    prefix: str
    dense: str
    activation: Literal["none", "relu", "tanh"]
    output: str
    pooling: Literal["mean", "first"]
    suffix: str = "ForSequenceClassification"
    padded: bool = False


def _speech(prefix: str) -> Head:
    # transformers projects every frame, then averages; the mean of linear projections is the projection of the mean.
    return Head(prefix, "projector", "none", "classifier", "mean")


_ROBERTA = Head("roberta.", "classifier.dense", "tanh", "classifier.out_proj", "first")

HEADS: Mapping[str, Head] = {
    "bert": Head("bert.", "bert.pooler.dense", "tanh", "classifier", "first"),
    "data2vec-audio": _speech("data2vec_audio."),
    "distilbert": Head("distilbert.", "pre_classifier", "relu", "classifier", "first"),
    "hubert": _speech("hubert."),
    "roberta": _ROBERTA,
    "wav2vec2": _speech("wav2vec2."),
    "wavlm": _speech("wavlm."),
    "whisper": dataclasses.replace(_speech("encoder."), suffix="ForAudioClassification", padded=True),
    "xlm-roberta": _ROBERTA,
}
"""`model_type` -> head."""


@settings
class _HeadConfig:
    """Fields of `config.json` that change the outputs of the head."""

    pooling_mode: str | None = None
    use_weighted_layer_sum: bool = False
    do_stable_layer_norm: bool = False
    transformers_version: str | None = None

    def __post_init__(self):
        """Checks that the definition of the weighted layers is unambiguous.

        Raises:
          ConfigError: naming the key.
        """
        major = (self.transformers_version or "").partition(".")[0]
        if self.use_weighted_layer_sum and self.do_stable_layer_norm and major.isdecimal() and int(major) > 4:
            # Up to version 4 the last of the weighted hidden states is after the final layer norm, since 5 before it.
            raise ConfigError(
                "use_weighted_layer_sum must be False with do_stable_layer_norm in a checkpoint of transformers 5, "
                "got True"
            )


def read_standard(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor], family: Family
) -> PublishedModel:
    """Reads a checkpoint of a class of `HEADS`.

    Args:
      folder: folder of the checkpoint.
      config: checked content of `config.json`.
      tensors: tensors of the weight file.
      family: family of the encoder.

    Raises:
      CheckpointError: the checkpoint is of another class, incomplete, or does not fit its own `config.json`.
    """
    head = _head_of(folder, config, family)
    outputs, fields = read_fields(Outputs, folder, config), read_fields(_HeadConfig, folder, config)
    if fields.pooling_mode not in (None, head.pooling):
        raise CheckpointError(
            f"{folder / 'config.json'}: pooling_mode must be {head.pooling!r} with this head, "
            f"got {fields.pooling_mode!r}"
        )
    module: Any = family.build_module(config, frozenset(), ComputeOptions())
    modality: Literal["acoustic", "lexical"] = "acoustic" if family.modality == "speech" else "lexical"
    size, labels = num_units(tensors, f"{head.dense}.bias"), len(outputs.labels)
    rows = num_units(tensors, f"{head.output}.bias")
    if rows and rows != labels:
        raise CheckpointError(
            f"{folder / 'config.json'}: id2label must have {rows} names, "
            f"as many as {head.output} of {_name(folder)} has outputs, got {labels}"
        )
    expected = {
        f"{modality}_network/embedding/kernel": (f"{head.dense}.weight", (size, module.config.hidden_size)),
        f"{modality}_network/embedding/bias": (f"{head.dense}.bias", (size,)),
        "output/kernel": (f"{head.output}.weight", (labels, size)),
        "output/bias": (f"{head.output}.bias", (labels,)),
    }
    layers: tuple[int, ...] = (-1,)
    if fields.use_weighted_layer_sum and modality == "acoustic":  # text models of transformers ignore the key
        layers = tuple(range(module.config.num_layers + 1))
        expected[f"{modality}/layer_scores"] = ("layer_weights", (len(layers),))
    pooler = f"{head.prefix}pooler."
    encoder = {name: tensor for name, tensor in tensors.items() if name.startswith(head.prefix)}
    selected = select_head(folder, tensors, expected, encoder)
    return PublishedModel(
        encoder_config=config,
        # Checkpoints of RoBERTa may have a pooler, which its head does not use.
        encoder={name: tensor for name, tensor in encoder.items() if not name.startswith(pooler)},
        inputs=functools.partial(family.inputs.read, folder),
        pooling=head.pooling,
        activation=head.activation,
        head=selected,
        labels=outputs.names,
        modality=modality,
        layers=layers,
        padded=head.padded,
    )


def _head_of(folder: Path, config: Mapping[str, Any], family: Family) -> Head:
    """Looks up the head of a family, and checks that the checkpoint has no other one."""
    if family.model_type not in HEADS:
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type must be one of {', '.join(HEADS)}, got {family.model_type!r}"
        )
    head = HEADS[family.model_type]
    expected = family.architecture.removesuffix("Model") + head.suffix
    if config.get("architectures") not in (None, [], [expected]):
        found = str(config["architectures"])[:100]
        raise CheckpointError(
            f"{folder / 'config.json'}: unsupported emotion model: architectures must be {[expected]}, got {found}; "
            f"{SUPPORTED}"
        )
    return head


def _name(folder: Path) -> str:
    file = weight_file(folder)
    return file.name if file else "the weights"
