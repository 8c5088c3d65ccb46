"""Log-mel energies in ONNX: a Fourier transform of two stages, each a convolution that every runtime computes fast."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from emojax.audio import LogMelConfig
from emojax.audio.mel_scale import mel_filterbank
from emojax.export.onnx_graph import FLOAT, Graph, Value


def log_mel_energies(graph: Graph, waveform: Value, total: Value, config: LogMelConfig) -> Value:
    """Natural logarithms of mel energies (B, T, K) of T = `total` frames.

    The transform of N = P R points is that of Cooley and Tukey (1965): P points of every R-th sample, for each of R
    offsets, then R points across the offsets, for each of the P // 2 + 1 bins that a real signal needs. R divides the
    frame shift, so that the first stage is a convolution over the signal, with the window in its taps: frames are never
    copied.

    Args:
      graph: graph that nodes are added to.
      waveform: (B, S); extended by zeros to the end of the last frame.
      total: T, int64 of shape (1,).
      config: parameters of the features.
    """
    plan = _fastest(config)
    offsets, bins = plan.offsets, plan.first_bins
    batch = graph.size(waveform, 0)
    rows = graph.op("Add", graph.op("Mul", graph.op("Sub", total, [1]), [plan.stride]), [plan.taps])
    samples = graph.op("Mul", rows, [offsets])
    missing = graph.op("Max", graph.op("Sub", samples, graph.size(waveform, 1)), [0])
    padded = graph.op("Pad", waveform, graph.shape(0, 0, 0, missing), np.float32(0))
    signal = graph.op("Reshape", graph.slice(padded, 1, 0, samples), graph.shape(batch, rows, offsets))
    by_offset = graph.op("Transpose", signal, perm=[0, 2, 1])
    stage = {"group": offsets, "strides": [plan.stride], "kernel_shape": [plan.taps]}
    first = graph.op("Conv", by_offset, _first_stage(graph, plan, config), **stage)
    # (offset, bin, part, frame) to (bin, offset, part, frame); both parts of a number stay together.
    parts = graph.op("Reshape", first, graph.shape(batch, offsets, bins, graph.op("Mul", total, [2])))
    by_bin = graph.op("Transpose", parts, perm=[0, 2, 1, 3])
    by_bin = graph.op("Reshape", by_bin, graph.shape(batch, 2 * bins * offsets, total))
    real, imaginary = (
        graph.op("Conv", by_bin, table, group=bins, kernel_shape=[1]) for table in _second_stage(graph, plan, config)
    )
    power = graph.op("Add", graph.op("Mul", real, real), graph.op("Mul", imaginary, imaginary))
    energies = graph.op("MatMul", _mel_weights(plan, config), power)
    logarithms = graph.op("Log", graph.op("Max", energies, np.float32(config.floor)))
    return graph.op("Transpose", logarithms, perm=[0, 2, 1])


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Sizes of the two stages.

    Attributes:
      offsets: R, points of the second stage.
      points: P, points of the first stage.
      taps: samples of a frame per offset that its window does not set to zero, rounded up.
      stride: frame shift, in steps of R samples.
    """

    offsets: int
    points: int
    taps: int
    stride: int

    @property
    def first_bins(self) -> int:
        """Bins of the first stage that are not conjugates of others."""
        return self.points // 2 + 1

    @property
    def products(self) -> int:
        """Multiplications for a frame."""
        return 2 * self.first_bins * self.offsets * (self.taps + 2 * self.offsets)

    @property
    def bins(self) -> Float[np.ndarray, "P2 R"]:
        """Bins of the whole transform in the order of the second stage's outputs, P2 = `first_bins`."""
        return np.arange(self.first_bins)[:, None] + self.points * np.arange(self.offsets)


def _fastest(config: LogMelConfig) -> _Plan:
    """The plan with the least products."""
    size, hop = config.fft_size, config.hop_samples
    common = math.gcd(size, hop)
    divisors = [number for number in range(1, common + 1) if common % number == 0]
    plans = [_Plan(each, size // each, -(-config.window_samples // each), hop // each) for each in divisors]
    return min(plans, key=lambda plan: plan.products)


def _first_stage(graph: Graph, plan: _Plan, config: LogMelConfig) -> Value:
    """Taps (C, 1, taps) by offset, bin, and part: the periodic Hann window times waves of `points` points."""
    steps, bins = np.arange(plan.taps), np.arange(plan.first_bins)
    samples = plan.offsets * steps + np.arange(plan.offsets)[:, None]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * samples / config.window_samples)
    window = np.where(samples < config.window_samples, window, 0.0).astype(np.float32)
    quarter = config.fft_size // 4
    waves = _cosines(graph, bins[:, None, None], plan.offsets * steps, [[0], [quarter]], config.fft_size)
    taps = graph.op("Mul", window[:, None, None], waves)  # (offset, bin, part, tap)
    return graph.op("Reshape", taps, [-1, 1, plan.taps])


def _second_stage(graph: Graph, plan: _Plan, config: LogMelConfig) -> list[Value]:
    """Weights (C, 2 R, 1) of the real and of the imaginary part of bins, over offsets and the first stage's parts."""
    quarter = config.fft_size // 4
    bins, offsets = plan.bins[..., None, None], np.arange(plan.offsets)[:, None]
    tables = (_cosines(graph, bins, offsets, [start, start - quarter], config.fft_size) for start in (0, quarter))
    return [graph.op("Reshape", table, [-1, 2 * plan.offsets, 1]) for table in tables]


def _cosines(graph: Graph, left: np.ndarray, right: np.ndarray, shift: Any, period: int) -> Value:
    """Cosines of (left * right + shift) / period turns, which the runtime computes once: the file stays small.

    Real parts of exp(-i x) are cosines of x, imaginary parts those of x and a quarter turn.
    """
    product = graph.op("Mul", left.astype(np.int64), right.astype(np.int64))
    position = graph.op("Mod", graph.op("Add", product, np.asarray(shift, np.int64)), np.int64(period))
    return graph.op("Cos", graph.op("Mul", graph.op("Cast", position, to=FLOAT), np.float32(2 * np.pi / period)))


def _mel_weights(plan: _Plan, config: LogMelConfig) -> Float[np.ndarray, "K C"]:
    """Mel weights in the order of the second stage's bins, of which those above the middle mirror those below."""
    bins = plan.bins.reshape(-1)
    mirrored = np.minimum(bins, config.fft_size - bins)
    _, first = np.unique(mirrored, return_index=True)  # some bins are computed twice
    weights = np.zeros((bins.size, config.num_bands), np.float32)
    weights[first] = mel_filterbank(config.bands)[mirrored[first]]
    return weights.T
