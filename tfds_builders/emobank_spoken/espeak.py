"""Speech synthesis with espeak-ng, reproducible bit for bit and independent of earlier calls."""

import ctypes
import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Int16

ESPEAK_RATE = 22_050
"""Sample rate of espeak-ng (Hz)."""

RATE_WPM = (80, 450)
PITCH = RANGE = (0, 100)
"""Range of espeak-ng's pitch and pitch range; 50 is the default of the voice."""

# From espeak_ng/speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_PARAMETER_RATE, _PARAMETER_VOLUME, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 2, 3, 4
_VOLUME = 30  # Of 200; at the default of 100 some voices clip.
_VOLUMES = (0, 200)
_POSITION_CHARACTER = 1
_CHARS_UTF8 = 1  # Without the SSML and phoneme bits, `<b>` and `[[` are plain text.
_OK = 0

_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclasses.dataclass(frozen=True)
class Delivery:
    """Parameters of espeak-ng.

    Attributes:
      voice: voice file with variant, e.g. `gmw/en-US+f1`.
      rate: words per minute, within `RATE_WPM`.
      pitch: within `PITCH`; 50 is the voice's default, 0 an octave below, 100 an octave above.
      pitch_range: within `RANGE`; 50 is the voice's default, 0 monotone, 100 twice as wide.
    """

    voice: str
    rate: int
    pitch: int
    pitch_range: int


def speak(text: str, delivery: Delivery) -> Int16[np.ndarray, "S"]:
    """Synthesises plain text at `ESPEAK_RATE`; text without words gives silence.

    The library is reloaded for every call (5 ms), since it keeps state between utterances, e.g. the phase of the
    vibrato, that `espeak_Initialize` does not reset; the audio would otherwise depend on the order of calls.

    Raises:
      RuntimeError: espeak-ng rejects the voice or a value.
    """
    import _ctypes

    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        return _speak(library, espeakng_loader.get_data_path(), text, delivery)
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)


def _speak(library: ctypes.CDLL, data: str, text: str, delivery: Delivery) -> Int16[np.ndarray, "S"]:
    chunks: list[bytes] = []

    @_SynthCallback
    def collect(samples, count: int, events) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data.encode(), _INITIALIZE_DONT_EXIT)
    if rate != ESPEAK_RATE:
        raise RuntimeError(f"espeak-ng: initialisation with {data} gave {rate}; expected {ESPEAK_RATE} Hz")
    library.espeak_SetSynthCallback(collect)
    # espeak-ng ignores an unknown variant.
    variant = Path(data) / "voices" / "!v" / delivery.voice.partition("+")[2]
    if not variant.is_file() or library.espeak_SetVoiceByName(delivery.voice.encode()) != _OK:
        raise RuntimeError(f"espeak-ng: no voice {delivery.voice!r}")
    for parameter, value, (low, high) in (
        (_PARAMETER_RATE, delivery.rate, RATE_WPM),
        (_PARAMETER_VOLUME, _VOLUME, _VOLUMES),
        (_PARAMETER_PITCH, delivery.pitch, PITCH),
        (_PARAMETER_RANGE, delivery.pitch_range, RANGE),
    ):
        if not low <= value <= high or library.espeak_SetParameter(parameter, value, 0) != _OK:
            raise RuntimeError(f"espeak-ng: {delivery} is out of range")
    encoded = text.encode() + b"\0"
    status = library.espeak_Synth(encoded, len(encoded), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
    if status != _OK:
        raise RuntimeError(f"espeak-ng: synthesis of {text[:60]!r} failed with status {status}")
    return np.frombuffer(b"".join(chunks), np.int16)
