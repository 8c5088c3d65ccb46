"""Speech to text with a published CTC checkpoint: encoder, linear head, greedy decoding."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from emojax.encoders.checkpoint_files import find_folder, read_tensors
from emojax.encoders.ctc_vocabulary import CTCVocabulary, read_ctc_vocabulary
from emojax.encoders.encoder import Encoder
from emojax.encoders.family import ComputeOptions
from emojax.encoders.load import load_encoder
from emojax.encoders.stored_tensor import StoredTensor
from emojax.errors import CheckpointError

_DEFAULT_OPTIONS = ComputeOptions()


@dataclasses.dataclass(frozen=True, eq=False)
class SpeechRecognizer:
    """A HuBERT, wav2vec 2.0 or WavLM fine-tuned with CTC (Graves et al. 2006).

    Attributes:
      encoder: the encoder below the head.
      kernel: weights of the head, (D, labels).
      bias: bias of the head, (labels,).
      vocabulary: what the labels mean.
    """

    encoder: Encoder
    kernel: Float32[np.ndarray, "D V"]
    bias: Float32[np.ndarray, "V"]
    vocabulary: CTCVocabulary

    def transcribe(self, audio: np.ndarray) -> str:
        """The words of one recording.

        Args:
          audio: float (S,), 16 kHz mono, full scale 1.0, as `emojax.audio.read_audio` returns it.

        Raises:
          AudioError: it is no mono floating-point waveform, or too short for one frame.
        """
        return self.transcribe_all([audio])[0]

    def transcribe_all(self, recordings: Sequence[np.ndarray]) -> list[str]:
        """The words of each of a list of recordings, computed in batches; as `transcribe` gives them."""
        return [self.vocabulary.decode(scores.argmax(axis=-1).tolist()) for scores in self.logits(recordings)]

    def logits(self, recordings: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Unnormalised log-probabilities of the labels, float32 (T_i, labels) per recording."""
        return [states @ self.kernel + self.bias for states in self.encoder.encode(list(recordings))]


def load_recognizer(
    name_or_path: str | os.PathLike[str],
    options: ComputeOptions = _DEFAULT_OPTIONS,
    *,
    revision: str | None = None,
) -> SpeechRecognizer:
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
        raise CheckpointError(f"{file}: has no CTC head (lm_head); allowed: a speech encoder fine-tuned with CTC")
    kernel = _read(file, stored, "lm_head.weight", (num_labels, encoder.num_features)).T
    bias = _read(file, stored, "lm_head.bias", (num_labels,))
    return SpeechRecognizer(encoder, np.ascontiguousarray(kernel), bias, read_ctc_vocabulary(folder))


def _read(file: Path, stored: Mapping[str, StoredTensor], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in stored or tuple(stored[name].shape) != shape:
        found = f"has shape {tuple(stored[name].shape)}" if name in stored else "is missing"
        raise CheckpointError(f"{file}: {name} {found}; allowed: {shape}")
    return np.asarray(stored[name].read(), np.float32)
