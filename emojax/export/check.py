"""Comparison of exported files with the model on recordings: differences and their tolerances."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from emojax.errors import ConfigError, EmojaxError
from emojax.export.clips import Clip
from emojax.export.description import Description
from emojax.inference import Prediction, Predictor, Stream
from emojax.types import ATTRIBUTES
from emojax.workdir import TrainedModel
from emojax.workdir.quantised import quantise

Outputs = Mapping[str, np.ndarray]
"""Outputs of a file by name, one row per clip."""

Run = Callable[[np.ndarray, np.ndarray], Outputs]
"""Runs a file on padded clips (B, S) and their numbers of samples (B,)."""

TOLERANCE = 1e-4
"""Largest difference of probabilities, and of attributes relative to the length of their scale."""

_EMBEDDING_TOLERANCE = 1e-3
"""Largest difference of embeddings, relative to their largest value."""


class ExportError(EmojaxError):
    """An exported file whose outputs differ from the model's."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """Largest differences between a file and the model.

    Attributes:
      differences: by output.
      tolerances: likewise.
      count: number of predictions that were compared.
    """

    differences: dict[str, float]
    tolerances: dict[str, float]
    count: int

    @property
    def passed(self) -> bool:
        """Whether no difference is above its tolerance; NaN is."""
        return all(value <= self.tolerances[name] for name, value in self.differences.items())

    def __str__(self) -> str:
        found = (f"{name} {value:.1e} (<= {self.tolerances[name]:.1e})" for name, value in self.differences.items())
        return f"{self.count} predictions, largest differences: {', '.join(found)}"


def compare(found: Sequence[Outputs], wanted: Sequence[Outputs], description: Description) -> Parity:
    """Compares outputs of a file with the model's, one row per clip in each."""
    low, high = description.scale
    differences, tolerances = {}, {}
    for name in description.outputs:
        expected = np.concatenate([outputs[name] for outputs in wanted])
        actual = np.concatenate([outputs[name] for outputs in found])
        if actual.shape != expected.shape:
            raise ExportError(f"output {name} must have shape {expected.shape}, got {actual.shape}")
        differences[name] = float(np.abs(actual - expected).max())
        tolerances[name] = TOLERANCE
        if name == "attributes":
            tolerances[name] = TOLERANCE * (high - low)
        if name == "embedding":
            tolerances[name] = _EMBEDDING_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    return Parity(differences, tolerances, sum(len(outputs["embedding"]) for outputs in wanted))


def check_clips(run: Run, predictor: Predictor, clips: Sequence[Clip], description: Description) -> Parity:
    """Compares a file of whole clips with the model: all clips in one padded batch, then one clip alone.

    Raises:
      ExportError: a difference is above its tolerance.
    """
    waveform, num_samples = padded(clips)
    together = model_outputs(predictor, waveform, num_samples, description)
    alone = clips[0][None], np.array([len(clips[0])])
    single = model_outputs(predictor, *alone, description)
    return passed(compare([run(waveform, num_samples), run(*alone)], [together, single], description))


def check_single_clips(run: Run, predictor: Predictor, clips: Sequence[Clip], description: Description) -> Parity:
    """Compares a file that takes one clip at a time with the model.

    Raises:
      ExportError: a difference is above its tolerance.
    """
    waveform, num_samples = padded(clips)
    found = [run(clip[None], np.array([len(clip)])) for clip in clips]
    return passed(compare(found, [model_outputs(predictor, waveform, num_samples, description)], description))


def check_stream(session: Any, predictor: Predictor, clip: Clip, description: Description) -> Parity:
    """Compares an ONNX file of a stream with `emojax.Stream`, after chunks of different lengths.

    Raises:
      ExportError: a difference is above its tolerance, or a prediction comes earlier or later.
    """
    names = [output.name for output in session.get_outputs()]
    state = initial_state(session)
    stream, found, wanted = Stream(predictor), [], []
    ends = np.cumsum([1, 100, 2_399, 4_000, 160, 9_000, 12_345])
    for chunk in np.split(clip, ends[ends < len(clip)]):
        values = session.run(names, {"waveform": chunk[None], **state})
        outputs = dict(zip(names, values, strict=True))
        state = {name: outputs[name.replace("state_", "next_", 1)] for name in state}
        prediction = stream(chunk)
        if (prediction is None) != (outputs["next_frames"][0, 0] == 0):
            raise ExportError(f"stream: has {outputs['next_frames'][0, 0]:g} frames where the model has others")
        if prediction is not None:
            wanted.append(prediction_row(prediction))
            found.append(outputs)
    if not wanted:
        raise ConfigError(f"stream: the first clip ({len(clip)} samples) has no frame; give longer ones by --clips")
    return passed(compare(found, wanted, description))


def initial_state(session: Any) -> dict[str, np.ndarray]:
    """State of one stream before its first sample, from the metadata of its ONNX file."""
    shapes = json.loads(session.get_modelmeta().custom_metadata_map["stream_state"])
    return {f"state_{name}": np.zeros((1, *shape), np.float32) for name, shape in shapes.items()}


def model_outputs(
    predictor: Predictor, waveform: np.ndarray, num_samples: np.ndarray, description: Description
) -> Outputs:
    """Outputs of the model, named and scaled as in exported files."""
    output = predictor.forward(waveform, num_samples.astype(np.int32), [""] * len(num_samples))
    rows = [prediction_row(predictor.named(output, row)) for row in range(len(num_samples))]
    return {name: np.concatenate([row[name] for row in rows]) for name in description.outputs}


def padded(clips: Sequence[Clip]) -> tuple[np.ndarray, np.ndarray]:
    """Clips as one array with noise after their ends, which must not matter, and their numbers of samples."""
    num_samples = np.array([len(clip) for clip in clips])
    waveform = 0.1 * np.random.default_rng(0).standard_normal((len(clips), num_samples.max())).astype(np.float32)
    for row, clip in zip(waveform, clips, strict=True):
        row[: len(clip)] = clip
    return waveform, num_samples


def quantised_model(trained: TrainedModel) -> TrainedModel:
    """The model with the weights of its 8-bit workdir (`emojax.workdir.quantised`)."""
    variables = jax.device_get(trained.variables)

    def rounded(leaf: np.ndarray, stacked: bool) -> np.ndarray:
        if stacked:  # `scan_layers`: exported as single layers
            return np.stack([rounded(layer, False) for layer in leaf])
        if leaf.ndim < 2:
            return leaf
        integers, scale = quantise(np.asarray(leaf, np.float32))
        return integers.astype(np.float32) * scale

    flat = flax.traverse_util.flatten_dict(variables["params"])
    found = {path: rounded(np.asarray(leaf), "layers" in path) for path, leaf in flat.items()}
    params = flax.traverse_util.unflatten_dict(found)
    return dataclasses.replace(trained, variables={**variables, "params": params})


def prediction_row(prediction: Prediction) -> dict[str, np.ndarray]:
    """A prediction as outputs of one row."""
    ratings = [prediction.ratings[name].probabilities for name in ATTRIBUTES if name in prediction.ratings]
    return {
        "attributes": np.array([list(prediction.attributes.values())]),
        "categories": np.array([list(prediction.emotions.values())]),
        "ratings": np.array([ratings]),
        "embedding": prediction.embedding[None],
    }


def passed(parity: Parity) -> Parity:
    """Returns a comparison without a difference above its tolerance.

    Raises:
      ExportError: it has one.
    """
    if not parity.passed:
        raise ExportError(f"differs from the model: {parity}")
    return parity
