"""Time of jitted log-mel energies of 32 clips of 5 s beside librosa and transformers with the same settings.

python -m benchmarks.log_mel [--json PATH]
"""

import argparse
import functools
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import librosa
import numpy as np
from transformers.audio_utils import mel_filter_bank, spectrogram_batch, window_function

from benchmarks.machine import print_processor
from emojax.audio import LogMelConfig, log_mel
from emojax.types import SAMPLE_RATE

CLIPS, SECONDS = 32, 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each, taken in turns (default 15)")
    arguments = parser.parse_args()
    machine = print_processor()
    results = [_compare(fft_size, arguments.rounds) for fft_size in (400, 512)]
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


def _compare(fft_size: int, rounds: int) -> dict:
    config = LogMelConfig(
        num_bands=40,
        window_ms=25.0,
        hop_ms=10.0,
        fft_size=fft_size,
        low_hz=20.0,
        high_hz=8000.0,
        mel_scale="htk",
        mel_norm="none",
        floor=1e-8,
    )
    jitted = jax.jit(functools.partial(log_mel, config=config))
    methods = {
        "emojax": lambda clips: np.asarray(jitted(clips)),
        "librosa, whole batch": lambda clips: _librosa(clips, config),
        "librosa, clip by clip": lambda clips: [_librosa(clip, config) for clip in clips],
        "transformers": _transformers(config),
    }
    times: dict[str, list[float]] = {name: [] for name in methods}
    rng = np.random.default_rng(0)
    for attempt in range(rounds + 2):
        # Every method gets NumPy audio it has not seen, and gives NumPy features.
        clips = rng.normal(scale=0.1, size=(CLIPS, round(SECONDS * SAMPLE_RATE))).astype(np.float32)
        for name, method in methods.items():
            start = time.perf_counter()
            method(clips)
            if attempt >= 2:  # The first two compile and warm up.
                times[name].append(time.perf_counter() - start)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    best = min(seconds["librosa, whole batch"], seconds["librosa, clip by clip"])
    audio_hours = CLIPS * SECONDS / 3600
    print(f"{CLIPS} clips of {SECONDS:g} s, {fft_size}-point transform, {jax.devices()[0].device_kind}")
    for name, value in seconds.items():
        print(
            f"  {name:22} {1e3 * value:8.2f} ms  {audio_hours / value:7.2f} hours of audio per second"
            f"  {value / seconds['emojax']:6.2f} x emojax's time"
        )
    return {
        "fft_size": fft_size,
        "milliseconds": {name: 1e3 * value for name, value in seconds.items()},
        "ratio_to_faster_librosa": best / seconds["emojax"],
        "audio_hours_per_second": audio_hours / seconds["emojax"],
        "largest_log_difference_to_librosa": _largest_difference(jitted, clips, config),
    }


def _librosa(waveform: np.ndarray, config: LogMelConfig) -> np.ndarray:
    energies = librosa.feature.melspectrogram(
        y=waveform,
        sr=SAMPLE_RATE,
        n_fft=config.fft_size,
        hop_length=config.hop_samples,
        win_length=config.window_samples,
        center=False,
        power=2.0,
        n_mels=config.num_bands,
        fmin=config.low_hz,
        fmax=config.high_hz,
        htk=True,
        norm=None,
    )
    return np.log(np.maximum(energies, config.floor)).swapaxes(-1, -2)


def _transformers(config: LogMelConfig):
    filters = mel_filter_bank(
        config.fft_size // 2 + 1, config.num_bands, config.low_hz, config.high_hz, SAMPLE_RATE, mel_scale="htk"
    )
    window = window_function(config.window_samples, "hann")

    def energies(clips: np.ndarray) -> list[np.ndarray]:
        return spectrogram_batch(
            list(clips),
            window,
            config.window_samples,
            config.hop_samples,
            config.fft_size,
            power=2.0,
            center=False,
            mel_filters=filters,
            mel_floor=config.floor,
            log_mel="log",
        )

    return energies


def _largest_difference(jitted, clips: np.ndarray, config: LogMelConfig) -> float:
    # librosa puts a window shorter than the transform in its middle.
    margin = (config.fft_size - config.window_samples) // 2
    reference = _librosa(np.pad(clips, ((0, 0), (margin, margin))), config)
    return float(np.abs(np.asarray(jitted(jnp.asarray(clips))) - reference).max())


if __name__ == "__main__":
    main()
