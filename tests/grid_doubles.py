"""Utterances, settings and models that tests of the robustness grid share."""

import jax
import numpy as np

from emojax.interruption import Interruption
from emojax.model_tests import Clip
from emojax.parallel import MeshConfig, make_mesh
from emojax.robustness import RobustnessGridConfig, measure_grid
from emojax.robustness.config import ChannelGridConfig, NoiseGridConfig, RoomGridConfig
from emojax.robustness.models import OnHost
from emojax.robustness.results import GridResults
from emojax.robustness.sounds import load_sounds, talkers_of
from tests.model_doubles import in_memory, toy_info

N = 24
CONFIG = RobustnessGridConfig(
    noise=NoiseGridConfig(snrs_db=(10.0, 0.0), files=2, seconds=1.0),
    rooms=RoomGridConfig(count=1, seconds=0.3, noise_snrs_db=(0.0,)),
    channels=ChannelGridConfig(codecs=("gsm",)),
    bootstrap_resamples=100,
)


def tone_utterances():
    """Harmonic tones with a pause, whose spectrum follows activation, of four speakers."""
    random = np.random.default_rng(0)
    labels = random.random((N, 3))
    clips = []
    for row in range(N):
        time = np.arange(4800 + 200 * row) / 16_000
        low, high = np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 1500 * time)
        wave = (1 - labels[row, 0]) * low + labels[row, 0] * high + 0.01 * random.standard_normal(len(time))
        wave[2000:3000] = 0
        clips.append(Clip(f"u{row}", (0.2 * wave).astype(np.float32), f"word{row}"))
    emotion = (labels[:, 0] > 0.5).astype(int)
    speakers = [f"s{row % 4}" for row in range(N)]
    return in_memory(toy_info(("calm", "excited")), clips, labels, emotion, speakers)


def sounds_for(config, utterances):
    clips = utterances.read(range(N))
    return load_sounds(config, talkers_of([c.waveform for c in clips], utterances.ids, utterances.speakers))


def a_model(double, name):
    return OnHost(double, name, name)


def run(models, utterances, sounds, directory, config=CONFIG, devices=1) -> GridResults:
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    return measure_grid(models, utterances, sounds, config, mesh, directory, Interruption())
