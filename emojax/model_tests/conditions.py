"""Conditions under which a model is tested, by test: named degradations with the levels of the catalogue."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from emojax.audio.clip_degradations import (
    Noise,
    babble_of,
    each,
    excerpts_of,
    in_room,
    in_sequence,
    unchanged,
    with_noise,
)
from emojax.audio.perturbations import (
    AMR_NB,
    Waveform,
    change_gain,
    clip_samples,
    compress_dynamics,
    crop,
    filter_ends,
    missing_codec,
    pad,
    pink_noise,
    through_codec,
    through_rate,
    tilt_spectrum,
    tone,
    white_noise,
)
from emojax.audio.waveform_augment import noise_bank, room_bank
from emojax.model_tests.config import RobustnessConfig
from emojax.model_tests.measurement import Condition
from emojax.model_tests.utterances import Utterances

_NOISE_SECONDS, _MOST_NOISES = 5.0, 64
_ROOM_SECONDS = 4.0
_BABBLE_CLIPS = 64


def small_changes() -> Iterator[Condition]:
    """Changes that a listener hardly notices: tone, ends, clipping, gain, first-order filters, white noise."""
    for db in (40, 45, 50):
        yield Condition(f"tone 5 to 7 kHz, {db} dB", with_noise(_high_tone, db, "tone"))
    for samples in (100, 500, 1000):
        yield Condition(f"{samples} samples added at the start", each(pad, samples, 0))
        yield Condition(f"{samples} samples added at the end", each(pad, 0, samples))
        yield Condition(f"{samples} samples cropped at the start", each(crop, samples, 0))
        yield Condition(f"{samples} samples cropped at the end", each(crop, 0, samples))
    for percent in (0.1, 0.2, 0.3):
        yield Condition(f"clipping of {percent} %", each(clip_samples, percent / 100))
    for gain in (-2, -1, 1, 2):
        yield Condition(f"gain {gain:+d} dB", each(change_gain, gain))
    for hertz in (50, 100, 150):
        yield Condition(f"high-pass {hertz} Hz", each(filter_ends, "highpass", hertz))
    for hertz in (7500, 7000, 6500):
        yield Condition(f"low-pass {hertz} Hz", each(filter_ends, "lowpass", hertz))
    for db in (35, 40, 45):
        yield Condition(f"white noise, {db} dB", with_noise(white_noise, db, "white"))


def background_noises(config: RobustnessConfig, utterances: Utterances, seed: int) -> Iterator[Condition]:
    """Babble, environment, music and white noise, and coughs and sneezes.

    Babble is made of utterances of the split. The bundled noises have neither music nor human sounds, for which a
    folder is needed.
    """
    db, sound_db = config.noise_snr_db, config.sound_snr_db
    drawn = np.random.default_rng(seed).permutation(len(utterances))[:_BABBLE_CLIPS]
    speech = [clip.waveform for clip in utterances.read(sorted(drawn.tolist()))]
    yield Condition(f"babble, {db:g} dB", with_noise(babble_of(speech), db, "babble"))
    yield Condition(f"environment, {db:g} dB", with_noise(_recorded(config.noise_folder, seed), db, "environment"))
    yield _from_folder("music", f"music, {db:g} dB", config.music_folder, db, seed)
    yield Condition(f"white noise, {db:g} dB", with_noise(white_noise, db, "white"))
    yield _from_folder("cough", f"coughs, {sound_db:g} dB", config.cough_folder, sound_db, seed)
    yield _from_folder("sneeze", f"sneezes, {sound_db:g} dB", config.sneeze_folder, sound_db, seed)


def low_quality_phone() -> Iterator[Condition]:
    """Compressed dynamics, AMR narrow-band at 7.4 kbit/s and 8 kHz, and high-passed pink noise 25 dB below speech."""
    phone = in_sequence(
        each(compress_dynamics),
        each(through_codec, AMR_NB),
        with_noise(_high_passed_pink, 25.0, "pink"),
    )
    yield Condition("compressor, AMR-NB, pink noise", phone, missing_codec(AMR_NB))


def rooms(config: RobustnessConfig, seed: int) -> Iterator[Condition]:
    """Impulse responses of rooms."""
    bank = room_bank(config.room_folder, "evaluation", config.rooms, _ROOM_SECONDS, seed)
    for name, response, length in zip(bank.names, bank.sounds, bank.lengths, strict=True):
        yield Condition(f"room {Path(name).stem}", in_room(response[:length]))


def spectral_tilt() -> Iterator[Condition]:
    """Spectra with attenuated lows or highs, by 3 dB per octave."""
    yield Condition("attenuated lows", each(tilt_spectrum, 3.0))
    yield Condition("attenuated highs", each(tilt_spectrum, -3.0))


def sample_rates() -> Iterator[Condition]:
    """Lower sample rates, resampled to 16 kHz for the model."""
    for rate in (8000, 11025):
        yield Condition(f"{rate} Hz", each(through_rate, rate))


def compression() -> Iterator[Condition]:
    """Lossy codecs of libsndfile."""
    yield Condition("Opus, about 15 kbit/s", each(through_codec, "opus"))
    yield Condition("GSM 06.10, 13 kbit/s at 8 kHz", each(through_codec, "gsm"))


def _high_tone(samples: int, random: np.random.Generator) -> Waveform:
    return tone(samples, float(random.uniform(5000, 7000)))


def _high_passed_pink(samples: int, random: np.random.Generator) -> Waveform:
    return filter_ends(pink_noise(samples, random), "highpass", 1000, order=2)


def _recorded(folder: str, seed: int) -> Noise:
    return excerpts_of(noise_bank(folder, "evaluation", _MOST_NOISES, _NOISE_SECONDS, seed))


def _from_folder(kind: str, name: str, folder: str, db: float, seed: int) -> Condition:
    if not folder:
        missing = f"no {kind} is bundled; config.robustness.{kind}_folder can give a folder of it"
        return Condition(name, unchanged, missing)
    return Condition(name, with_noise(_recorded(folder, seed), db, kind))
