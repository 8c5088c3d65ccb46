"""Recognition with a CTC head: vocabulary and greedy decoding."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float32

from emojax.encoders.checkpoint_files import find_folder, read_tensors
from emojax.encoders.encoder import Encoder
from emojax.encoders.families import ComputeOptions
from emojax.encoders.pretrained import load_encoder
from emojax.encoders.weight_files import StoredTensor
from emojax.errors import CheckpointError, ConfigError
from emojax.files import read_json_object
from emojax.recognition.transcript import Segment, Transcript, compression_ratio
from emojax.schema import Ge, Le, parse, settings
from emojax.types import SAMPLE_RATE

# English spacing that `clean_up_tokenization_spaces` undoes in transformers, in its order.
_SPACING = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


@dataclasses.dataclass(frozen=True, eq=False)
class CTCVocabulary:
    """Labels of a CTC head; decoding equals that of `Wav2Vec2CTCTokenizer` in transformers.

    Attributes:
      tokens: label -> token.
      blank: blank token of CTC.
      unknown: token of labels that `tokens` does not have.
      word_delimiter: token between words.
      space: replacement of the delimiter in the text.
      lower_case: whether the text is lower-cased.
      tighten: whether spaces before English punctuation and contractions are removed.
    """

    tokens: Mapping[int, str]
    blank: str
    unknown: str
    word_delimiter: str
    space: str
    lower_case: bool
    tighten: bool

    def decode(self, labels: Iterable[int]) -> str:
        """Decodes the best label per frame: merges repetitions, then removes blanks (Graves et al. 2006)."""
        frames = (self.tokens.get(label, self.unknown) for label in labels)
        tokens = [token for token, _ in itertools.groupby(frames) if token != self.blank]
        text = "".join(self.space if token == self.word_delimiter else token for token in tokens).strip()
        if self.lower_case:
            text = text.lower()
        if self.tighten:
            for spaced in _SPACING:
                text = text.replace(spaced, spaced.strip())
        return text


@settings
class _AddedToken:
    """Entry of an added token: its text, and flags of matching that are not read."""

    content: str


_Token = str | _AddedToken | None
_Label = Annotated[int, Ge(0), Le(2**20)]


@settings
class _TokenizerSettings:
    """Keys of `tokenizer_config.json` and `special_tokens_map.json`; defaults are `Wav2Vec2CTCTokenizer`'s."""

    pad_token: _Token = "<pad>"
    unk_token: _Token = "<unk>"
    word_delimiter_token: _Token = "|"
    replace_word_delimiter_char: str = " "
    do_lower_case: bool = False
    clean_up_tokenization_spaces: bool | None = False
    target_lang: str | None = None
    added_tokens_decoder: Mapping[str, str | _AddedToken] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        """Checks the labels of added tokens.

        Raises:
          ConfigError: naming the label.
        """
        for label in self.added_tokens_decoder:
            if not label.isdecimal() or len(label) > 7:
                raise ConfigError(f"added_tokens_decoder: {label[:40]!r} must be an integer label")


@settings
class _Labels:
    """A map from tokens to labels, the content of `vocab.json` and `added_tokens.json`."""

    labels: Mapping[str, _Label]


def read_ctc_vocabulary(folder: Path) -> CTCVocabulary:
    """Reads the vocabulary of a checkpoint folder.

    From `vocab.json`, and where they exist `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`.

    Raises:
      CheckpointError: `vocab.json` is absent or no map from tokens to labels, or has several languages and the
        settings select none of them; or a setting is of a wrong type.
    """
    named = folder / "tokenizer_config.json"
    tree = {**_optional(folder / "special_tokens_map.json"), **_optional(named)}
    found = parse(_TokenizerSettings, tree, str(named), error=CheckpointError, unknown="ignore", missing="default")
    tokens = {int(label): _text(token, "") for label, token in found.added_tokens_decoder.items()}
    added = folder / "added_tokens.json"
    tokens.update({label: token for token, label in _labels(_optional(added), added).items()})
    tokens.update({label: token for token, label in _vocabulary(folder / "vocab.json", found.target_lang).items()})
    return CTCVocabulary(
        tokens=tokens,
        blank=_text(found.pad_token, "<pad>"),
        unknown=_text(found.unk_token, "<unk>"),
        word_delimiter=_text(found.word_delimiter_token, "|"),
        space=found.replace_word_delimiter_char,
        lower_case=found.do_lower_case,
        tighten=bool(found.clean_up_tokenization_spaces),
    )


def _vocabulary(file: Path, language: str | None) -> Mapping[str, int]:
    vocabulary: Any = read_json_object(file)
    if language is not None:
        if language not in vocabulary:
            raise CheckpointError(f"{file}: must have target_lang {language[:40]!r}, has {', '.join(vocabulary)[:200]}")
        vocabulary = vocabulary[language]
    return _labels(vocabulary, file)


def _labels(tree: Any, file: Path) -> Mapping[str, int]:
    return parse(_Labels, {"labels": tree}, str(file), error=CheckpointError).labels


def _optional(file: Path) -> dict[str, Any]:
    return read_json_object(file) if file.is_file() else {}


def _text(token: _Token, default: str) -> str:
    return default if token is None else token if isinstance(token, str) else token.content


_DEFAULT_OPTIONS = ComputeOptions()


@dataclasses.dataclass(frozen=True, eq=False)
class CTCRecognizer:
    """A speech encoder fine-tuned with CTC (Graves et al. 2006).

    Attributes:
      encoder: encoder below the head.
      kernel: weights of the head, (D, labels).
      bias: bias of the head, (labels,).
      vocabulary: tokens of the labels.
    """

    encoder: Encoder
    kernel: Float32[np.ndarray, "D V"]
    bias: Float32[np.ndarray, "V"]
    vocabulary: CTCVocabulary

    @property
    def min_samples(self) -> int:
        """Samples of one frame."""
        return self.encoder.min_samples

    def transcribe(self, audio: np.ndarray) -> Transcript:
        """Transcribes one recording.

        Args:
          audio: float (S,), 16 kHz mono, full scale 1.0, as `emojax.audio.read_audio` returns it.

        Raises:
          AudioError: it is not a mono floating-point waveform, or too short for one frame.
        """
        return self.transcribe_all([audio])[0]

    def transcribe_all(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        """Transcribes several recordings, computed in batches; the results are those of `transcribe`."""
        clips = list(recordings)
        return [self._transcript(scores, len(clip)) for scores, clip in zip(self.logits(clips), clips, strict=True)]

    def _transcript(self, scores: Float32[np.ndarray, "T V"], num_samples: int) -> Transcript:
        text = self.vocabulary.decode(scores.argmax(axis=-1).tolist())
        if not text:
            return Transcript("")
        best = scores.max(axis=-1, keepdims=True)
        log_probability = -float(np.log(np.exp(scores - best).sum(axis=-1)).mean())
        segment = Segment(text, 0.0, num_samples / SAMPLE_RATE, log_probability, compression_ratio(text))
        return Transcript(text, (segment,))

    def logits(self, recordings: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Computes unnormalised log-probabilities of the labels, float32 (T_i, labels) per recording."""
        return [states @ self.kernel + self.bias for states in self.encoder.encode(list(recordings))]


def load_ctc_recognizer(
    name_or_path: str | os.PathLike[str],
    options: ComputeOptions = _DEFAULT_OPTIONS,
    *,
    revision: str | None = None,
) -> CTCRecognizer:
    """Loads a CTC checkpoint, e.g. facebook/hubert-large-ls960-ft or facebook/wav2vec2-base-960h.

    Args:
      name_or_path: a folder, or a name on the Hugging Face hub, looked up in the cache when offline.
      options: how the encoder computes.
      revision: branch, tag or commit on the hub; the main branch if not given.

    Raises:
      CheckpointError: as `load_encoder`; or the checkpoint has no CTC head or vocabulary.
    """
    encoder = load_encoder(name_or_path, options, revision=revision)
    folder = find_folder(os.fspath(name_or_path), revision)
    file, stored = read_tensors(folder)
    num_labels = stored["lm_head.bias"].shape[0] if "lm_head.bias" in stored else 0
    if encoder.family.modality != "speech" or not num_labels:
        raise CheckpointError(f"{file}: must be a speech encoder fine-tuned with CTC, has no CTC head (lm_head)")
    kernel = _read(file, stored, "lm_head.weight", (num_labels, encoder.num_features)).T
    bias = _read(file, stored, "lm_head.bias", (num_labels,))
    return CTCRecognizer(encoder, np.ascontiguousarray(kernel), bias, read_ctc_vocabulary(folder))


def _read(file: Path, stored: Mapping[str, StoredTensor], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in stored or tuple(stored[name].shape) != shape:
        found = f"got {tuple(stored[name].shape)}" if name in stored else "is missing"
        raise CheckpointError(f"{file}: {name} must have shape {shape}, {found}")
    return np.asarray(stored[name].read(), np.float32)
