"""The format `stablehlo`: programs that a plain JAX loads, with the parameters inside, for CPU, CUDA and TPU."""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jax.errors import InconclusiveDimensionOperation

from emojax.errors import ConfigError, reason
from emojax.export.check import Outputs, Parity, check_clips, compare, passed, prediction_row
from emojax.export.description import stream_obstacle
from emojax.export.files import Export, Source
from emojax.inference import Stream
from emojax.types import NUM_ATTRIBUTES, Batch, EmotionOutput

PLATFORMS = ("cpu", "cuda", "tpu")

EXAMPLE = '''"""Predicts a mono WAV file of 16 kHz with JAX alone: python example.py clip.wav"""
import json, sys, wave
import jax, numpy as np
from jax import export
with wave.open(sys.argv[1]) as file:
    assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
    waveform = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)[None] / 32768
model = jax.jit(export.deserialize(bytearray(open("model.stablehlo", "rb").read())).call)
description = json.load(open("metadata.json"))
for name, values in model(waveform, np.array([waveform.shape[1]], np.int32)).items():
    print(name, description.get(name, ""), np.asarray(values[0]))
'''

_SHORTEST = 400
"""Samples of the shortest padded batch, at least one frame of 25 ms."""


def export_stablehlo(source: Source) -> Export:
    """Writes and compares a program of whole clips and, where the model can, one of a stream.

    Raises:
      ConfigError: the model cannot be traced with free batch and length, or a package is not installed.
      ExportError: a file differs from the model.
    """
    export = Export("jax")
    content = clip_program(source)
    export.add(
        "model.stablehlo",
        content,
        partial(check_clips, _clip_run(content, source), source.predictor, source.clips, source.description),
    )
    export.note(
        f"The batch of `model.stablehlo` must have at least {_least_samples(source)} samples: add zeros to a shorter "
        "one. `num_samples` is int32."
    )
    export.note("JAX 0.9 and later read the files; it needs the package flatbuffers for that.")
    obstacle = stream_obstacle(source.trained)
    if obstacle:
        export.note(f"No file for streams: {obstacle}.")
    else:
        _add_stream(export, source)
    export.files["example.py"] = EXAMPLE.encode()
    return export


def clip_program(source: Source) -> bytes:
    """Exports `model(waveform (b, s), num_samples (b)) -> outputs by name`; b and s are free."""
    trained, description = source.trained, source.description

    def model(waveform: jax.Array, num_samples: jax.Array) -> dict[str, jax.Array]:
        rows = waveform.shape[0]
        batch = Batch(
            waveform=waveform,
            num_samples=num_samples,
            tokens=jnp.zeros((rows, 0), jnp.int32),
            num_tokens=jnp.zeros(rows, jnp.int32),
            attributes=jnp.zeros((rows, NUM_ATTRIBUTES)),
            emotion=jnp.zeros(rows, jnp.int32),
            emotion_votes=jnp.zeros((rows, trained.model.num_categories)),
            weight=jnp.ones(rows),
            index=jnp.zeros(rows, jnp.int32),
        )
        output: Any = trained.model.apply(trained.variables, batch, train=False)
        return _named(source, output)

    limits = [f"s >= {_least_samples(source)}", "b >= 1"]
    limits += [f"s <= {description.max_samples}"] if description.max_samples else []
    rows, samples = jax_export.symbolic_shape("b, s", constraints=limits)
    shapes = jax.ShapeDtypeStruct((rows, samples), jnp.float32), jax.ShapeDtypeStruct((rows,), jnp.int32)
    return _serialised(model, shapes, str(trained.workdir))


def stream_program(source: Source) -> tuple[bytes, dict[str, np.ndarray]]:
    """Exports `step(waveform (1, hop * stack * n + window - hop), state) -> (outputs, state)`; n is free.

    Returns:
      The program, and the state before the first sample: arrays by name.
    """
    settings = source.trained.config.model.log_mel
    stream = Stream(source.predictor)
    leaves, structure = jax.tree.flatten(stream.state)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(stream.state)]

    def step(waveform: jax.Array, state: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        before = jax.tree.unflatten(structure, [state[name] for name in names])
        output, after = stream.advance(waveform, before)
        return _named(source, output), dict(zip(names, jax.tree.leaves(after), strict=True))

    hop, window = settings.filterbank.hop_samples, settings.filterbank.window_samples
    axis = f"{hop * settings.stack} * n + {window - hop}"
    (samples,) = jax_export.symbolic_shape(axis, constraints=["n >= 1"])
    initial = {name: np.asarray(leaf) for name, leaf in zip(names, leaves, strict=True)}
    shapes = jax.ShapeDtypeStruct((1, samples), jnp.float32), jax.eval_shape(lambda: initial)
    return _serialised(step, shapes, str(source.trained.workdir)), initial


def _serialised(function: Callable[..., Any], shapes: tuple[Any, ...], context: str) -> bytes:
    try:
        exported = jax_export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)
    except (InconclusiveDimensionOperation, TypeError, ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"{context}: cannot be exported with free batch and length ({reason(error)}); StableHLO export has log-mel "
            "networks, Whisper encoders, and those of HuBERT's family without group norm"
        ) from error
    try:
        return bytes(exported.serialize())
    except ImportError as error:
        raise ConfigError(
            "--format=stablehlo needs flatbuffers, which is not installed (pip install flatbuffers)"
        ) from error


def _named(source: Source, output: EmotionOutput) -> dict[str, jax.Array]:
    """Outputs by name, in the scale of the corpus."""
    description = source.description
    (low, high), columns = description.scale, np.array(description.columns, np.int32)
    named = {"embedding": output.embedding}
    if description.attributes:
        named["attributes"] = low + (high - low) * output.attributes[:, columns]
    if description.categories:
        named["categories"] = jax.nn.softmax(output.emotion_logits)
    if output.rating_logits is not None and description.rating_values:
        named["ratings"] = jax.nn.softmax(output.rating_logits[:, columns])
    return named


def _least_samples(source: Source) -> int:
    return max(source.description.min_samples, _SHORTEST)


def _clip_run(content: bytes, source: Source) -> Callable[[np.ndarray, np.ndarray], Outputs]:
    call = jax.jit(jax_export.deserialize(bytearray(content)).call)
    least = _least_samples(source)

    def run(waveform: np.ndarray, num_samples: np.ndarray) -> Outputs:
        extended = np.pad(waveform, ((0, 0), (0, max(least - waveform.shape[1], 0))))
        return jax.device_get(call(extended, num_samples.astype(np.int32)))

    return run


def _add_stream(export: Export, source: Source) -> None:
    content, initial = stream_program(source)
    export.add("stream.stablehlo", content, partial(_check_stream, content, initial, source))
    file = io.BytesIO()
    np.savez(file, **initial)  # type: ignore[arg-type]
    export.files["stream_state.npz"] = file.getvalue()
    filterbank, stack = source.trained.config.model.log_mel.filterbank, source.trained.config.model.log_mel.stack
    step, overlap = filterbank.hop_samples * stack, filterbank.window_samples - filterbank.hop_samples
    export.note(
        f"`stream.stablehlo` takes {step} n + {overlap} samples (1, samples) and the state, at first the arrays of "
        f"`stream_state.npz`; the last {overlap} samples of a call are the first of the next."
    )


def _check_stream(content: bytes, initial: dict[str, np.ndarray], source: Source) -> Parity:
    """Compares a program of a stream with `emojax.Stream` after calls of two lengths."""
    call = jax.jit(jax_export.deserialize(bytearray(content)).call)
    settings = source.trained.config.model.log_mel
    step, overlap = settings.filterbank.hop_samples * settings.stack, settings.filterbank.window_samples
    overlap -= settings.filterbank.hop_samples
    stream, clip, state = Stream(source.predictor), source.clips[0], initial
    found, wanted, start = [], [], 0
    for count in (1, 3, 1):
        end = start + count * step + overlap
        if end > len(clip):
            break
        outputs, state = call(clip[None, start:end], state)
        prediction = stream(clip[start + (overlap if start else 0) : end])
        assert prediction is not None  # a whole stack is complete
        found.append(jax.device_get(outputs))
        wanted.append(prediction_row(prediction))
        start += count * step
    return passed(compare(found, wanted, source.description))
