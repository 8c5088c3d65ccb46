"""Streaming prediction: chunks of audio of any length in, running predictions out."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from emojax.audio import check_samples, log_mel, normalise_with
from emojax.bucketing import row_counts
from emojax.errors import AudioError, ConfigError
from emojax.inference.predictor import Prediction, Predictor
from emojax.models import TCGRU, EmotionHeads, LogMelInputConfig, clip_attributes, stack_frames
from emojax.models.tcgru import StreamState
from emojax.parallel import check_not_forked
from emojax.types import SAMPLE_RATE, EmotionOutput

_ANY_UP_TO, _MOST_STACKS = 8, 256
"""Stacked frames per call: any number up to 8, or a power of two up to 256, so that few shapes are compiled."""

_MOST_ROWS, _MOST_SHARED_STACKS = 16, 16
"""Streams that are computed together: rows per call, 4 or 16; stacked frames per call, a power of two up to 16."""


class Stream:
    """Running predictions of one stream.

    After any chunk the prediction equals, to rounding, the model's prediction for all samples since the start. The
    state has a small constant size: less than one frame of samples, and `state`, a tree of small arrays.

    Models that can stream have log-mel as their only input, normalised by the corpus or not at all, without deltas, and
    causal convolutions (`network.causal`).
    """

    def __init__(self, model: Predictor):
        """Starts a stream.

        Args:
          model: model from `emojax.load`.

        Raises:
          ConfigError: the model cannot stream; the message gives the reason.
        """
        self._model = model
        trained = model.trained
        self._settings = check_streaming(trained.config.model.modalities, trained.config.model.log_mel)
        self._network = TCGRU(self._settings.network, jnp.dtype(trained.config.model.dtype))
        settings = trained.config.model
        self._heads = EmotionHeads(trained.model.num_categories, jnp.dtype(settings.dtype), settings.rating_bins)
        clip = trained.config.model.clip_attributes
        self._advance = functools.partial(_advance, self._settings, self._network, self._heads, clip)
        self._variables = {
            "network": {"params": trained.variables["params"].get("log_mel_network", {})},
            "heads": {"params": trained.variables["params"]["heads"]},
            "statistics": trained.variables.get("statistics", {}).get("log_mel", {}),
        }
        self.reset()

    def reset(self) -> None:
        """Resets the state; the next chunk starts a new stream."""
        features = jnp.zeros((1, 1, self._settings.filterbank.num_bands * self._settings.stack))
        self.state: StreamState = self._network.apply(self._variables["network"], features, method="start")  # type: ignore[assignment]
        self._waiting = np.zeros(0, np.float32)
        self._output: EmotionOutput | None = None

    def advance(self, samples: Float[Any, "B S"], state: StreamState) -> tuple[EmotionOutput, StreamState]:
        """Computes outputs and the next state from whole stacks of frames; a pure function for use in programs."""
        return self._advance(self._variables, samples, state)

    def __call__(self, chunk: Float32[np.ndarray, "S"]) -> Prediction | None:
        """Adds a chunk and returns the updated prediction.

        Args:
          chunk: 16 kHz mono samples, float with full scale 1.0 or int16; any length, 0 included.

        Returns:
          The prediction for all samples since the start; None until the first frames are complete (25 ms, or longer
          with `log_mel.stack`).

        Raises:
          AudioError: the chunk is not a mono waveform, or has samples that are not finite or above `MAX_MAGNITUDE`; the
            state of the stream is unchanged.
        """
        return advance_streams([self], [chunk])[0]

    def _complete_stacks(self) -> int:
        """Number of complete stacks of frames that wait."""
        hop, window = self._settings.filterbank.hop_samples, self._settings.filterbank.window_samples
        return max(len(self._waiting) - window + hop, 0) // (hop * self._settings.stack)

    def _take(self, stacks: int) -> Float32[np.ndarray, "S"]:
        """Samples of the next stacks; those that no later frame has are removed."""
        hop, window = self._settings.filterbank.hop_samples, self._settings.filterbank.window_samples
        size = stacks * hop * self._settings.stack
        samples = self._waiting[: size - hop + window]
        self._waiting = self._waiting[size:]
        return samples


def advance_streams(streams: Sequence[Stream], chunks: Sequence[Float32[np.ndarray, "S"]]) -> list[Prediction | None]:
    """Adds a chunk to each of several streams of one model; streams with a similar number of frames share computations.

    Args:
      streams: different streams of one model.
      chunks: chunk of each, of any length; see `Stream.__call__`.

    Returns:
      What calling each stream returns, to rounding.

    Raises:
      AudioError: a chunk is invalid; see `Stream.__call__`. No stream has changed.
    """
    check_not_forked()
    for stream, waveform in zip(streams, [_waveform(chunk) for chunk in chunks], strict=True):
        stream._waiting = np.concatenate([stream._waiting, waveform])
    while groups := list(_groups(streams)):
        for stacks, rows, members in groups:
            _advance_group(members, stacks, rows)
    return [
        None if stream._output is None else stream._model.named(jax.device_get(stream._output), 0) for stream in streams
    ]


def _groups(streams: Sequence[Stream]) -> Iterator[tuple[int, int, list[Stream]]]:
    """Yields the next computations: stacked frames, rows, streams."""
    shared: dict[int, list[Stream]] = {}
    for stream in streams:
        if complete := stream._complete_stacks():
            stacks = _power_of_two(complete)
            shared.setdefault(stacks if stacks <= _MOST_SHARED_STACKS else 0, []).append(stream)
    alone = shared.pop(0, [])
    for stacks, members in shared.items():
        for rows in row_counts(len(members), _MOST_ROWS):
            if rows > 1:
                yield stacks, rows, members[:rows]
            else:
                alone += members[:1]
            members = members[rows:]
    for stream in alone:
        complete = stream._complete_stacks()
        yield complete if complete <= _ANY_UP_TO else min(_power_of_two(complete), _MOST_STACKS), 1, [stream]


def _power_of_two(number: int) -> int:
    return 1 << (number.bit_length() - 1)


def _advance_group(streams: list[Stream], stacks: int, rows: int) -> None:
    """Advances up to `rows` streams by the same number of stacked frames; the first one fills empty rows."""
    samples = [stream._take(stacks) for stream in streams]
    if rows == 1:
        (stream,) = streams
        stream._output, stream.state = stream.advance(samples[0][None], stream.state)
        return
    filled = [0] * (rows - len(streams))
    states = [streams[row].state for row in (*range(len(streams)), *filled)]
    state = jax.tree.map(lambda *leaves: np.concatenate(leaves), *states)
    waveform = np.stack(samples + [samples[row] for row in filled])
    outputs, after = jax.device_get(streams[0].advance(waveform, state))
    for row, stream in enumerate(streams):
        stream._output, stream.state = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1].copy(), (outputs, after))


def warm_streams(model: Predictor, most: int = 1) -> int:
    """Compiles what up to `most` streams compute in one call of `advance_streams`; returns the number of shapes.

    Raises:
      ConfigError: the model cannot stream.
    """
    streams = [Stream(model) for _ in range(min(most, _MOST_ROWS))]
    settings = streams[0]._settings
    hop, window = settings.filterbank.hop_samples, settings.filterbank.window_samples
    stacks = [*range(1, _ANY_UP_TO + 1)]
    while stacks[-1] < _MOST_STACKS:
        stacks.append(2 * stacks[-1])
    shapes = [(each, 1) for each in stacks]
    counts = {rows for count in range(1, len(streams) + 1) for rows in row_counts(count, _MOST_ROWS)} - {1}
    powers = [each for each in stacks if each == _power_of_two(each) <= _MOST_SHARED_STACKS]
    shapes += [(each, rows) for each in powers for rows in sorted(counts)]
    for number, rows in shapes:
        for stream in streams:
            stream.reset()
            stream._waiting = np.zeros(number * hop * settings.stack - hop + window, np.float32)
        _advance_group(streams[:rows], number, rows)
        if rows == 1:  # the state is now on the device
            streams[0]._waiting = np.zeros(number * hop * settings.stack - hop + window, np.float32)
            _advance_group(streams[:1], number, 1)
    return len(shapes)


def check_streaming(modalities: tuple[str, ...], settings: LogMelInputConfig) -> LogMelInputConfig:
    """Checks that a model can run on a stream; returns its settings of the log-mel input.

    Raises:
      ConfigError: it cannot; the message names the field.
    """
    if modalities != ("log_mel",):
        raise ConfigError(f"model.modalities must be ('log_mel',) for streaming, got {modalities}")
    if settings.normalisation == "utterance":
        raise ConfigError("model.log_mel.normalisation must be 'corpus' or 'none' for streaming, got 'utterance'")
    if settings.deltas.order:
        raise ConfigError(
            f"model.log_mel.deltas.order must be 0 for streaming (deltas look ahead), got {settings.deltas.order}"
        )
    if settings.network.conv_channels and not settings.network.causal:
        raise ConfigError("model.log_mel.network.causal must be True for streaming, got False")
    return settings


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _advance(
    settings: LogMelInputConfig,
    network: TCGRU,
    heads: EmotionHeads,
    clip: bool,
    variables: dict[str, Any],
    waveform: Float[Array, "B S"],
    state: StreamState,
) -> tuple[EmotionOutput, StreamState]:
    """Computes the prediction and the new state from whole stacks of frames."""
    features = log_mel(waveform, settings.filterbank)
    mask = jnp.ones(features.shape[:2], bool)
    if settings.normalisation == "corpus":
        statistics = variables["statistics"]
        features = normalise_with(features, mask, statistics["mean"], statistics["std"])
    stacked, _ = stack_frames(features, mask, settings.stack)
    advanced: Any = network.apply(variables["network"], stacked, state, method="advance")
    output: Any = heads.apply(variables["heads"], advanced[0])
    return clip_attributes(output) if clip else output, advanced[1]


def _waveform(chunk: Any) -> Float32[np.ndarray, "S"]:
    samples = np.asarray(chunk)
    if samples.ndim != 1 or samples.dtype.kind not in "fi":
        raise AudioError(
            f"chunk must be mono samples at {SAMPLE_RATE} Hz, got {samples.dtype} of shape {samples.shape}"
        )
    if samples.dtype.kind == "i":
        if samples.dtype != np.int16:
            raise AudioError(f"chunk must be int16 or floating point, got {samples.dtype}")
        return samples.astype(np.float32) / 2**15
    check_samples(samples, "chunk")
    return samples.astype(np.float32)
