"""Text of windows of up to 30 s from the encoder's states: languages, temperatures, times of words."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from emojax.bucketing import row_counts
from emojax.encoders.whisper_encoder import WhisperEncoder
from emojax.recognition.alignment import attend_text, token_frames
from emojax.recognition.beam import search_tokens
from emojax.recognition.decoding import Decoded, decode_tokens, detect_languages
from emojax.recognition.fallback import WindowText, best_text, cut_loops, is_accepted, make_text
from emojax.recognition.options import DecodingOptions
from emojax.recognition.token_rules import TokenRules
from emojax.recognition.whisper_decoder import WhisperDecoder
from emojax.recognition.whisper_tokens import WhisperTokens
from emojax.recognition.windows import STEP, STEP_SECONDS

_LENGTH_STEP = 32
"""Aligned texts are padded to a multiple of this, so that few lengths are compiled."""


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of a recording.

    Attributes:
      position: its first sample.
      num_samples: its length.
      language: code of its language.
      timestamps: whether time stamps are predicted.
    """

    position: int
    num_samples: int
    language: str
    timestamps: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """Times of the text tokens of a window, without time stamps.

    Attributes:
      times: (M + 1,) starts of M tokens in seconds from the start of the window, and the end of the last one.
      probabilities: (M,), of each token.
    """

    times: Float[np.ndarray, "N"]
    probabilities: Float[np.ndarray, "M"]


@dataclasses.dataclass(frozen=True, eq=False)
class WindowDecoder:
    """A decoder with its vocabulary and options.

    Attributes:
      module: the network.
      params: its parameters.
      tokens: vocabulary.
      options: options of decoding.
    """

    module: WhisperDecoder
    params: Mapping[str, Any]
    tokens: WhisperTokens
    options: DecodingOptions

    def detect(self, states: Float[Array, "B T D"], mask: Bool[Array, "B T"]) -> list[str]:
        """Finds the language of each row of a multilingual checkpoint."""
        codes, ids = zip(*self.tokens.languages.items(), strict=True)
        found = detect_languages(self.module, self.params, states, mask, start=self.tokens.start, languages=ids)
        return [codes[index] for index in np.asarray(found)]

    def decode(
        self, windows: Sequence[Window], states: Float[Array, "B T D"], mask: Bool[Array, "B T"]
    ) -> list[WindowText]:
        """Decodes windows, again at higher temperatures where a text is not accepted.

        Args:
          windows: at most B windows, all with or all without time stamps.
          states: hidden states of the encoder, of the windows first.
          mask: True on valid frames.
        """
        attempts: list[list[WindowText]] = [[] for _ in windows]
        pending = list(range(len(windows)))
        for temperature in self.options.temperatures:
            for chosen, rows in _parts(pending, len(states)):
                of_rows = (states, mask) if len(rows) == len(states) else (states[rows], mask[rows])
                decoded = self._run([windows[row] for row in rows[: len(chosen)]], *of_rows, temperature)
                for row, index in enumerate(chosen):
                    ids = decoded.tokens[row, : decoded.counts[row]].tolist()
                    figures = float(decoded.log_probability[row]), float(decoded.no_speech[row])
                    attempts[index].append(make_text(ids, self.tokens, *figures, temperature))
            pending = [index for index in pending if not is_accepted(attempts[index][-1], self.options)]
            if not pending:
                break
        return [cut_loops(best_text(texts, self.options), self.tokens, self.options) for texts in attempts]

    def _run(self, windows: Sequence[Window], states: Array, mask: Array, temperature: float) -> Decoded:
        """Decodes windows at one temperature; further rows of the states are filler."""
        rows, timestamps = len(states), windows[0].timestamps
        prompts = [self.tokens.prompt(window.language, self.options.task, timestamps) for window in windows]
        prompt = np.array(prompts + prompts[:1] * (rows - len(windows)), np.int32)
        room = self.module.config.max_tokens - prompt.shape[1] - 2 * self.options.word_times
        given = (self.module, self.params, states, mask, prompt, np.arange(rows) < len(windows))
        settings = {
            "rules": self._rules(timestamps),
            "no_speech_token": self.tokens.no_speech,
            "max_tokens": min(self.options.max_tokens, room),
        }
        if self.options.beam_size > 1 and temperature == 0:
            beams = {"beam_size": self.options.beam_size, "length_penalty": self.options.length_penalty}
            return Decoded(*map(np.asarray, search_tokens(*given, **settings, **beams)))
        positions = np.zeros(rows, np.int32)
        positions[: len(windows)] = [window.position for window in windows]
        keys = _window_keys(self.options.seed, positions, round(1000 * temperature))
        divisor = np.float32(temperature or 1.0)
        return Decoded(*map(np.asarray, decode_tokens(*given, keys, divisor, **settings, sample=temperature > 0)))

    def _rules(self, timestamps: bool) -> TokenRules:
        tokens = self.tokens
        return TokenRules(tokens.end, tokens.no_timestamps, tokens.suppressed, tokens.suppressed_first, timestamps)

    def align(
        self,
        windows: Sequence[Window],
        texts: Sequence[WindowText],
        states: Float[Array, "B T D"],
        mask: Bool[Array, "B T"],
    ) -> list[Alignment]:
        """Finds the times of the tokens of decoded texts.

        Args:
          windows: at most B windows.
          texts: their texts.
          states: hidden states of the encoder, of the windows first.
          mask: True on valid frames.
        """
        end, limit = self.tokens.end, self.module.config.max_tokens
        written = [[token for token in text.tokens if token < end] for text in texts]
        prompts = [self.tokens.prompt(window.language, self.options.task, False) for window in windows]
        rows = [[*prompt, *ids, end] for prompt, ids in zip(prompts, written, strict=True)]
        longest = max(map(len, rows))
        tokens = np.full((len(states), min(-(-longest // _LENGTH_STEP) * _LENGTH_STEP, limit)), end, np.int32)
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)] = ids
        heads = self.tokens.alignment_heads
        found = attend_text(self.module, self.params, states, mask, tokens, heads=heads, end=end)
        weights, probabilities = map(np.asarray, found)
        alignments = []
        for row, (window, ids) in enumerate(zip(windows, rows, strict=True)):
            first, frames = len(prompts[row]), max(-(-window.num_samples // STEP), 1)
            starts = token_frames(weights[row, :, : len(ids), :frames], first) * STEP_SECONDS
            alignments.append(Alignment(starts, probabilities[row, first : len(ids) - 1]))
        return alignments


def _parts(indices: Sequence[int], most: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Divides indices into parts of few sizes: the indices of each, and these filled up to its number of rows."""
    start = 0
    for size in row_counts(len(indices), most):
        part = list(indices[start : start + size])
        yield part, np.array(part + part[:1] * (size - len(part)))
        start += size


@jax.jit
def _window_keys(seed: int | Array, positions: Int[Array, "B"], attempt: int | Array) -> Key[Array, "B"]:
    """Makes one key per window from its position in the recording, so that results do not depend on the batch."""
    key = jax.random.fold_in(jax.random.key(seed), attempt)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, positions)


@functools.partial(jax.jit, static_argnums=0)
def encode_windows(
    module: WhisperEncoder, params: Mapping[str, Any], waveform: Float[Array, "B S"], num_samples: Int[Array, "B"]
) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
    """Computes the hidden states of padded waveforms and their mask.

    On CPU windows are computed one after another: the intermediate results of one fit the cache.

    Args:
      module: Whisper encoder that pads clips to 30 s.
      params: its parameters.
      waveform: padded waveforms.
      num_samples: valid samples per row.
    """

    def encode(operands: tuple[Array, Array]) -> tuple[Array, Array]:
        output: Any = module.apply({"params": params}, *operands)
        return output.last_hidden_state, output.mask

    def one_by_one(operands: tuple[Array, Array]) -> tuple[Array, Array]:
        return jax.lax.map(lambda row: jax.tree.map(lambda x: x[0], encode((row[0][None], row[1][None]))), operands)

    return jax.lax.platform_dependent((waveform, num_samples), cpu=one_by_one, default=encode)
