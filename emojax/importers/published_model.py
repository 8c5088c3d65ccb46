"""Description of a published emotion model, and checks that layouts share: outputs, tensors of the head."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from emojax.encoders.checkpoint_files import weight_file
from emojax.encoders.inputs import InputAdapter
from emojax.encoders.tensor_table import FLOATS
from emojax.encoders.weight_files import StoredTensor
from emojax.errors import CheckpointError, ConfigError
from emojax.models.pooling import PoolingName
from emojax.schema import MaxLen, MinLen, parse, settings
from emojax.types import ATTRIBUTES

SUPPORTED = (
    "supported: the classification heads of transformers; a speech encoder with the head classifier.dense, "
    "classifier.out_proj on its pooled last states (e.g. audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim), or "
    "with pool_model and ser_model (e.g. 3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes)"
)
"""Layouts, for messages."""

_LABEL_SYNONYMS = {
    "arousal": "activation",
    "angry": "anger",
    "sad": "sadness",
    "happy": "happiness",
    "surprised": "surprise",
}
"""Labels with other names in emojax."""

_UNSUPPORTED_TENSORS = r"(.*\.)?(layer_weights|projector\..*)"
"""Tensors that weight layers or project hidden states; encoder loading ignores them, but here they affect outputs."""


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """A published emotion model whose tensors have not been read.

    Attributes:
      encoder_config: `config.json` of the encoder.
      encoder: tensors of the encoder by their names in the encoder's family.
      inputs: makes the adapter of the encoder's inputs from the config of its module.
      modality: model input that the encoder belongs to.
      layers: hidden states that are used; several are averaged with learned weights.
      pooling: pooling of the hidden states.
      norm: whether the embedding is layer-normalised before its activation.
      padded: whether clips are padded to the longest input of the encoder, and all frames pooled.
      activation: activation of the embedding.
      head: published tensors by parameter path; kernels are transposed (PyTorch layout). Those of the outputs are under
        `output`.
      labels: names of the outputs in the model's order; attributes have emojax's names, categories the checkpoint's.
    """

    encoder_config: Mapping[str, Any]
    encoder: Mapping[str, StoredTensor]
    inputs: Callable[[Any], InputAdapter]
    pooling: PoolingName
    activation: Literal["none", "relu", "tanh"]
    head: Mapping[str, StoredTensor]
    labels: tuple[str, ...]
    modality: Literal["acoustic", "lexical"] = "acoustic"
    layers: tuple[int, ...] = (-1,)
    norm: bool = False
    padded: bool = False

    @property
    def dimensional(self) -> bool:
        """Whether the model predicts attributes rather than categories."""
        return set(self.labels) <= set(ATTRIBUTES)


@settings
class Outputs:
    """Fields of `config.json` that describe the outputs."""

    id2label: Annotated[Mapping[str, str], MinLen(1), MaxLen(1000)]
    label2id: Mapping[str, int] | None = None
    problem_type: Literal["regression", "single_label_classification"] | None = None

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
        names, dimensional = self.labels, self.dimensional
        if not all(names):
            raise ConfigError(f"id2label must have names that are not empty, got {self.id2label}")
        if len(set(names)) != len(names):
            raise ConfigError(f"id2label must have distinct names, got {', '.join(self.given_labels)}")
        if dimensional and set(names) != set(ATTRIBUTES):
            raise ConfigError(f"id2label must be the three attributes, or categories only, got {', '.join(names)}")
        if len(names) < 2:
            raise ConfigError(f"id2label must have at least two categories, or the three attributes, got {names[0]}")
        expected = "regression" if dimensional else "single_label_classification"
        if self.problem_type not in (None, expected):
            raise ConfigError(f"problem_type must be {expected!r} with {', '.join(names)}, got {self.problem_type!r}")

    @property
    def dimensional(self) -> bool:
        """Whether an output is an attribute."""
        return bool(set(self.labels) & set(ATTRIBUTES))

    @property
    def given_labels(self) -> tuple[str, ...]:
        """Names of the outputs in the model's order, as the checkpoint has them."""
        return tuple(" ".join(self.id2label[str(number)].split()) for number in range(len(self.id2label)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs in the model's order: of attributes emojax's, of categories the checkpoint's."""
        return self.labels if self.dimensional else self.given_labels

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs in the model's order, in emojax's spelling, to compare them."""
        return tuple(_LABEL_SYNONYMS.get(name.lower(), name.lower()) for name in self.given_labels)


def read_fields(cls: type[Any], folder: Path, config: Mapping[str, Any]) -> Any:
    """Reads fields of a checkpoint's `config.json` as settings.

    Raises:
      CheckpointError: naming the file, the key and what is allowed.
    """
    path = str(folder / "config.json")
    return parse(cls, config, path, error=CheckpointError, unknown="ignore", missing="default")


def num_units(tensors: Mapping[str, StoredTensor], bias: str) -> int:
    """Returns the number of units of a layer, from its bias; 0 if the bias is missing or not a vector."""
    shape = tensors[bias].shape if bias in tensors else ()
    return shape[0] if len(shape) == 1 else 0


def select_head(
    folder: Path,
    tensors: Mapping[str, StoredTensor],
    expected: Mapping[str, tuple[str, tuple[int, ...]]],
    encoder: Mapping[str, StoredTensor],
) -> dict[str, StoredTensor]:
    """Selects the tensors of a head by path, and checks that no other tensor is outside the encoder.

    Args:
      folder: folder of the checkpoint.
      tensors: all tensors.
      expected: published name and shape by parameter path.
      encoder: tensors that the encoder reads or ignores.

    Raises:
      CheckpointError: naming the tensor that is missing, has another shape or type, or is not supported.
    """
    file = weight_file(folder)
    missing = [name for name, _ in expected.values() if name not in tensors]
    if missing:
        raise CheckpointError(f"{file}: {missing[0]} is missing")
    for name, shape in expected.values():
        found = tensors[name]
        if tuple(found.shape) != shape or found.dtype.name not in FLOATS:
            raise CheckpointError(
                f"{file}: {name} must be floating-point of shape {shape}, got {found.dtype.name} of shape {found.shape}"
            )
    known = {name for name, _ in expected.values()} | set(encoder)
    unused = sorted(set(tensors) - known) + sorted(name for name in encoder if re.fullmatch(_UNSUPPORTED_TENSORS, name))
    if unused:
        raise CheckpointError(f"{file}: has {unused[0]}, which is not supported; {SUPPORTED}")
    return {path: tensors[name] for path, (name, _) in expected.items()}


def output_order(model: PublishedModel) -> np.ndarray:
    """Returns the index in the published model of each output of the workdir's model."""
    names = ATTRIBUTES if model.dimensional else model.labels
    return np.array([model.labels.index(name) for name in names])
