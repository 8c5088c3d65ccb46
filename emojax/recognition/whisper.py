"""Recognition with Whisper checkpoints (Radford et al. 2023): recordings of any length to transcripts."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from emojax.bucketing import padded_batches, row_counts
from emojax.encoders.checkpoint_files import find_folder
from emojax.encoders.encoder import Encoder
from emojax.encoders.families import ComputeOptions
from emojax.encoders.pretrained import load_encoder
from emojax.encoders.whisper_encoder import padded_encoder
from emojax.errors import CheckpointError
from emojax.parallel import check_not_forked
from emojax.recognition.decoding import Decoded, decode_tokens, detect_languages
from emojax.recognition.fallback import WindowText, best_text, cut_loops, is_accepted, is_silent, make_text
from emojax.recognition.options import DecodingOptions
from emojax.recognition.token_rules import TokenRules
from emojax.recognition.transcript import Segment, Transcript
from emojax.recognition.whisper_checkpoint import load_decoder
from emojax.recognition.whisper_decoder import WhisperDecoder
from emojax.recognition.whisper_tokens import WhisperTokens, read_whisper_tokens
from emojax.recognition.windows import divide_window
from emojax.types import SAMPLE_RATE

_SILENCE = SAMPLE_RATE // 2
"""Samples of silence after a window that is not padded to 30 s."""

_DEFAULT_OPTIONS = ComputeOptions()
_DEFAULT_DECODING = DecodingOptions()


@dataclasses.dataclass
class _Progress:
    """A recording and what has been transcribed of it."""

    audio: np.ndarray
    timestamps: bool
    language: str
    position: int = 0
    segments: list[Segment] = dataclasses.field(default_factory=list)
    loops: int = 0

    def transcript(self) -> Transcript:
        text = " ".join(segment.text for segment in self.segments)
        return Transcript(text, tuple(self.segments), self.language or None, self.loops)


@dataclasses.dataclass(frozen=True, eq=False)
class WhisperRecognizer:
    """A Whisper checkpoint with its decoder.

    Attributes:
      encoder: encoder of the checkpoint; pads its inputs as `options.padded`.
      decoder: module of the decoder.
      params: its parameters.
      tokens: vocabulary.
      options: options of decoding.
    """

    encoder: Encoder
    decoder: WhisperDecoder
    params: Mapping[str, Any]
    tokens: WhisperTokens
    options: DecodingOptions

    def transcribe(self, audio: np.ndarray) -> Transcript:
        """Transcribes one recording.

        Args:
          audio: float (S,), 16 kHz mono, full scale 1.0, as `emojax.audio.read_audio` returns it.

        Raises:
          AudioError: it is not a mono floating-point waveform, has samples that are not finite, or is too short for
            one frame.
        """
        return self.transcribe_all([audio])[0]

    def transcribe_all(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        """Transcribes several recordings, computed in batches; the results are those of `transcribe`.

        A recording of more than 30 s is divided into windows: each starts where the last complete segment of the one
        before it ends.

        Raises:
          AudioError: as `transcribe`, naming the item.
        """
        check_not_forked()
        inputs: Any = self.encoder.inputs
        waveforms = dataclasses.replace(inputs, longest=None).prepare(list(recordings))
        language = self.options.language if self.tokens.languages else "en"
        progress = [
            _Progress(waveform, self.options.timestamps or len(waveform) > self._longest, language)
            for waveform in waveforms
        ]
        pending = progress
        while pending:
            for timestamps in (False, True):
                self._advance([each for each in pending if each.timestamps == timestamps], timestamps)
            pending = [each for each in pending if len(each.audio) - each.position >= self.encoder.min_samples]
        return [each.transcript() for each in progress]

    @property
    def _longest(self) -> int:
        return int(self.encoder.module.config.max_samples)

    def _advance(self, pending: Sequence[_Progress], timestamps: bool) -> None:
        """Transcribes the next window of each recording."""
        # Windows of similar length have texts of similar length; the longest text of a batch determines its time.
        pending = sorted(pending, key=lambda each: len(each.audio) - each.position)
        windows = [each.audio[each.position : each.position + self._longest] for each in pending]
        inputs, shortest = windows, self._longest
        if not self.options.padded:
            inputs = [np.pad(window, (0, _SILENCE))[: self._longest] for window in windows]
            shortest = SAMPLE_RATE
        size = self.options.batch_size * self._longest
        for rows, batch, lengths in padded_batches(inputs, shortest, size, self._longest):
            states, mask = _encode(self.encoder.module, self.encoder.params, batch, lengths)
            of_batch = [pending[row] for row in rows]
            self._detect(of_batch, states, mask)
            texts = self._decode(of_batch, states, mask, timestamps)
            for each, row, text in zip(of_batch, rows, texts, strict=True):
                self._append(each, text, len(windows[row]))

    def _detect(self, rows: Sequence[_Progress], states: Array, mask: Array) -> None:
        """Sets the languages that are not known yet."""
        if all(each.language for each in rows):
            return
        codes, ids = zip(*self.tokens.languages.items(), strict=True)
        found = detect_languages(self.decoder, self.params, states, mask, start=self.tokens.start, languages=ids)
        for each, index in zip(rows, np.asarray(found), strict=False):
            each.language = each.language or codes[index]

    def _decode(self, rows: Sequence[_Progress], states: Array, mask: Array, timestamps: bool) -> list[WindowText]:
        """Decodes one window per row, at higher temperatures where the text is not accepted."""
        attempts: list[list[WindowText]] = [[] for _ in rows]
        pending = list(range(len(rows)))
        for temperature in self.options.temperatures:
            for chosen, size in _parts(pending, len(states)):
                filled = [*chosen, *[chosen[0]] * (size - len(chosen))]
                some = (
                    (states, mask)
                    if filled == list(range(len(states)))
                    else (states[np.array(filled)], mask[np.array(filled)])
                )
                decoded = self._run([rows[i] for i in filled], *some, timestamps, temperature, len(chosen))
                for row, index in enumerate(chosen):
                    tokens = decoded.tokens[row, : decoded.counts[row]].tolist()
                    figures = float(decoded.log_probability[row]), float(decoded.no_speech[row])
                    attempts[index].append(make_text(tokens, self.tokens, *figures, temperature))
            pending = [index for index in pending if not is_accepted(attempts[index][-1], self.options)]
            if not pending:
                break
        return [cut_loops(best_text(texts, self.options), self.tokens, self.options) for texts in attempts]

    def _run(
        self,
        rows: Sequence[_Progress],
        states: Array,
        mask: Array,
        timestamps: bool,
        temperature: float,
        num_active: int,
    ) -> Decoded:
        prompt = np.array([self.tokens.prompt(each.language, self.options.task, timestamps) for each in rows], np.int32)
        keys = _window_keys(self.options.seed, np.array([each.position for each in rows]), int(1000 * temperature))
        decoded = decode_tokens(
            self.decoder,
            self.params,
            states,
            mask,
            prompt,
            np.arange(len(rows)) < num_active,
            keys,
            np.float32(temperature or 1.0),
            rules=self._rules(timestamps),
            no_speech_token=self.tokens.no_speech,
            max_tokens=min(self.options.max_tokens, self.decoder.config.max_tokens - prompt.shape[1]),
            sample=temperature > 0,
        )
        return Decoded(*map(np.asarray, decoded))

    def _rules(self, timestamps: bool) -> TokenRules:
        tokens = self.tokens
        return TokenRules(tokens.end, tokens.no_timestamps, tokens.suppressed, tokens.suppressed_first, timestamps)

    def _append(self, each: _Progress, text: WindowText, num_samples: int) -> None:
        """Adds the segments of a window to those of its recording, and moves on to the next window."""
        start, advance = each.position / SAMPLE_RATE, num_samples
        if not is_silent(text, self.options):
            each.loops += text.loops
            pieces, advance = divide_window(text.tokens, self.tokens.first_timestamp, num_samples)
            for piece in pieces:
                words = self.tokens.decode(piece.tokens).strip()
                if words:
                    each.segments.append(
                        Segment(
                            words,
                            start + piece.start,
                            start + piece.end,
                            text.log_probability,
                            text.compression_ratio,
                            text.no_speech,
                            text.temperature,
                        )
                    )
        each.position += advance


def _parts(indices: Sequence[int], most: int) -> Iterator[tuple[list[int], int]]:
    """Divides indices into parts of few sizes: the indices of each, and its number of rows."""
    start = 0
    for size in row_counts(len(indices), most):
        yield list(indices[start : start + size]), size
        start += size


@functools.partial(jax.jit, static_argnums=0)
def _encode(
    module: Any, params: Mapping[str, Any], waveform: Float[Array, "B S"], num_samples: Int[Array, "B"]
) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
    output = module.apply({"params": params}, waveform, num_samples)
    return output.last_hidden_state, output.mask


@jax.jit
def _window_keys(seed: int | Array, positions: Int[Array, "B"], attempt: int | Array) -> Key[Array, "B"]:
    """Makes one key per window from its position in the recording, so that results do not depend on the batch."""
    key = jax.random.fold_in(jax.random.key(seed), attempt)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, positions)


def load_whisper_recognizer(
    name_or_path: str | os.PathLike[str],
    options: ComputeOptions = _DEFAULT_OPTIONS,
    *,
    decoding: DecodingOptions = _DEFAULT_DECODING,
    revision: str | None = None,
) -> WhisperRecognizer:
    """Loads a Whisper checkpoint with its decoder, e.g. openai/whisper-tiny.en, or a CTranslate2 folder.

    Args:
      name_or_path: a folder, or a name on the Hugging Face hub, looked up in the cache when offline.
      options: how encoder and decoder compute.
      decoding: options of decoding.
      revision: branch, tag or commit on the hub; the main branch if not given.

    Raises:
      CheckpointError: as `load_encoder`; the checkpoint has no decoder or vocabulary; or word times are asked for and
        no alignment heads are published.
      ConfigError: the checkpoint does not have the language or task.
    """
    encoder = load_encoder(name_or_path, options, revision=revision)
    folder = find_folder(os.fspath(name_or_path), revision)
    decoder, params = load_decoder(folder, encoder.config, options)
    tokens = read_whisper_tokens(folder, decoder.config.vocab_size)
    tokens.check(decoding.language, decoding.task)
    if decoding.word_times and not tokens.alignment_heads:
        raise CheckpointError(f"{folder}: must have alignment_heads in generation_config.json for word times")
    encoder = padded_encoder(encoder) if decoding.padded else encoder
    return WhisperRecognizer(encoder, decoder, params, tokens, decoding)
