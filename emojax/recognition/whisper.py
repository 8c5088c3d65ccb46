"""Recognition with Whisper checkpoints (Radford et al. 2023): recordings of any length to transcripts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from emojax.bucketing import padded_batches
from emojax.encoders.encoder import Encoder
from emojax.parallel import check_not_forked
from emojax.recognition.fallback import WindowText, is_silent
from emojax.recognition.options import DecodingOptions
from emojax.recognition.transcript import Segment, Transcript, Word
from emojax.recognition.whisper_tokens import WhisperTokens
from emojax.recognition.window_decoder import Alignment, Window, WindowDecoder, encode_windows
from emojax.recognition.windows import Piece, divide_window
from emojax.recognition.words import make_words
from emojax.types import SAMPLE_RATE

_LEAST_LEVEL = 2.0**-15
"""Least step of 16-bit audio; a window below it has no text. Published decoders write some (tiny.en: "you")."""


@dataclasses.dataclass
class _Progress:
    """A recording and what has been transcribed of it."""

    audio: np.ndarray
    timestamps: bool
    language: str
    position: int = 0
    segments: list[Segment] = dataclasses.field(default_factory=list)
    loops: int = 0

    def window(self, longest: int) -> Window:
        return Window(self.position, min(len(self.audio) - self.position, longest), self.language, self.timestamps)

    def transcript(self) -> Transcript:
        text = " ".join(segment.text for segment in self.segments)
        return Transcript(text, tuple(self.segments), self.language or None, self.loops)


@dataclasses.dataclass(frozen=True, eq=False)
class WhisperRecognizer:
    """A Whisper checkpoint with its decoder.

    Attributes:
      encoder: encoder of the checkpoint; pads its inputs to 30 s.
      decoder: its decoder, vocabulary and options.
    """

    encoder: Encoder
    decoder: WindowDecoder

    @property
    def options(self) -> DecodingOptions:
        """Options of decoding."""
        return self.decoder.options

    @property
    def tokens(self) -> WhisperTokens:
        """Vocabulary."""
        return self.decoder.tokens

    @property
    def min_samples(self) -> int:
        """Samples of one mel frame."""
        return self.encoder.min_samples

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
        while pending := [each for each in progress if self._has_sound(each)]:
            for timestamps in (False, True):
                self._advance([each for each in pending if each.timestamps == timestamps])
        return [each.transcript() for each in progress]

    @property
    def _longest(self) -> int:
        return int(self.encoder.module.config.max_samples)

    def _has_sound(self, each: _Progress) -> bool:
        """Moves on over silent windows; whether a window with sound remains."""
        while each.position + self.min_samples <= len(each.audio):
            window = each.audio[each.position :][: self._longest]
            if np.abs(window).max() >= _LEAST_LEVEL:
                return True
            each.position += len(window)
        return False

    def _advance(self, pending: Sequence[_Progress]) -> None:
        """Transcribes the next window of each recording."""
        # Windows of similar length have texts of similar length; the longest text of a batch determines its time.
        pending = sorted(pending, key=lambda each: len(each.audio) - each.position)
        inputs = [each.audio[each.position :][: self._longest] for each in pending]
        size = self.options.batch_size * self._longest
        for rows, batch, lengths in padded_batches(inputs, self._longest, size, self._longest):
            states, mask = encode_windows(self.encoder.module, self.encoder.params, batch, lengths)
            of_batch = [pending[row] for row in rows]
            if not all(each.language for each in of_batch):
                for each, language in zip(of_batch, self.decoder.detect(states, mask), strict=False):
                    each.language = each.language or language
            windows = [each.window(self._longest) for each in of_batch]
            texts = self.decoder.decode(windows, states, mask)
            aligned: list[Alignment | None] = [None] * len(rows)
            if self.options.word_times:
                aligned = [*self.decoder.align(windows, texts, states, mask)]
            for each, window, text, alignment in zip(of_batch, windows, texts, aligned, strict=True):
                self._append(each, window, text, alignment)

    def _append(self, each: _Progress, window: Window, text: WindowText, alignment: Alignment | None) -> None:
        """Adds the segments of a window to those of its recording, and moves on to the next window."""
        each.position += window.num_samples
        if is_silent(text, self.options):
            return
        each.loops += text.loops
        pieces: tuple[Piece, ...] = (Piece(text.tokens, 0.0, window.num_samples / SAMPLE_RATE),)
        if window.timestamps:
            pieces, advance = divide_window(text.tokens, self.tokens.first_timestamp, window.num_samples)
            each.position = window.position + advance
        start, first = window.position / SAMPLE_RATE, 0
        for piece in pieces:
            ids = [token for token in piece.tokens if token < self.tokens.end]
            words: tuple[Word, ...] = ()
            if alignment is not None:
                times = start + alignment.times[first : first + len(ids) + 1]
                of_piece = alignment.probabilities[first : first + len(ids)]
                words = make_words(ids, times, of_piece, self.tokens, window.language)
            first += len(ids)
            written = self.tokens.decode(ids).strip()
            if written:
                figures = text.log_probability, text.compression_ratio, text.no_speech, text.temperature
                each.segments.append(Segment(written, start + piece.start, start + piece.end, *figures, words))
