"""The two-stage transform of ONNX files has the log-mel energies of NumPy's transform, for frames of any size."""

import numpy as np
import pytest

from emojax.audio import LogMelConfig
from emojax.audio.mel_scale import mel_filterbank
from emojax.encoders.whisper_inputs import whisper_filterbank

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from emojax.export.onnx_files import onnx_session
from emojax.export.onnx_front_end import num_frames
from emojax.export.onnx_graph import Graph
from emojax.export.onnx_mel_energies import fitted, log_mel_energies, samples_read

FILTERBANKS = {
    "default": LogMelConfig(),
    "whisper": whisper_filterbank(80),
    "no common divisor": LogMelConfig(hop_ms=161 / 16),
    "frame of the transform's size": LogMelConfig(window_ms=32.0, hop_ms=8.0),
    "shift of the transform's size": LogMelConfig(hop_ms=32.0),
    "gaps between frames": LogMelConfig(hop_ms=50.0),
    "odd first stage": LogMelConfig(fft_size=404),
    "small": LogMelConfig(window_ms=1.0, hop_ms=1.0, fft_size=16, num_bands=2),
}


def expected(waveform, config):
    """Log-mel energies in float64, from the definition."""
    starts = range(0, waveform.shape[1] - config.window_samples + 1, config.hop_samples)
    frames = np.stack([waveform[:, start : start + config.window_samples] for start in starts], 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.window_samples) / config.window_samples)
    power = np.abs(np.fft.rfft(frames * window, config.fft_size)) ** 2
    return np.log(np.maximum(power @ mel_filterbank(config.bands), config.floor))


@pytest.mark.parametrize("by_row", [False, True], ids=["batch", "by row"])
@pytest.mark.parametrize("config", FILTERBANKS.values(), ids=FILTERBANKS.keys())
def test_energies_are_those_of_the_definition(config, by_row):
    graph = Graph()
    waveform = graph.input("waveform", np.float32, ("batch", "samples"))
    total = num_frames(graph, graph.size(waveform, 1), config)
    complete = fitted(graph, waveform, samples_read(graph, total, config))
    values = log_mel_energies(graph, complete, config, by_row=by_row)
    graph.output("energies", values, np.float32, ("batch", "frames", config.num_bands))
    session = onnx_session(graph.model("energies", {}).SerializeToString())
    for extra in (0, 1, 7 * config.hop_samples - 1, 100 * config.hop_samples):
        audio = np.random.default_rng(extra).standard_normal((2, config.window_samples + extra)).astype(np.float32)
        (energies,) = session.run(None, {"waveform": audio})
        np.testing.assert_allclose(energies, expected(audio.astype(np.float64), config), atol=5e-5)
