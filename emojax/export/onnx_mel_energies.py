"""Log-mel energies in ONNX: a Fourier transform of two stages, a convolution and a product, fast in any runtime."""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from emojax.audio import LogMelConfig
from emojax.audio.mel_scale import mel_filterbank
from emojax.export.onnx_graph import FLOAT, Graph, Value


def samples_read(graph: Graph, total: Value, config: LogMelConfig) -> Value:
    """Samples that `log_mel_energies` reads for `total` frames, int64 (1,): whole steps of its first stage."""
    plan = _fastest(config)
    steps = graph.op("Add", graph.op("Mul", graph.op("Sub", total, [1]), [plan.stride]), [plan.taps])
    return graph.op("Mul", steps, [plan.offsets])


def fitted(graph: Graph, waveform: Value, samples: Value, *, skipped: Value | None = None) -> Value:
    """Waveform (B, S) from sample `skipped` on, extended by zeros or cut, so that it ends at sample `samples`."""
    start = 0 if skipped is None else graph.op("Neg", skipped)
    end = graph.op("Sub", samples, graph.size(waveform, 1))
    return graph.op("Pad", waveform, graph.shape(0, start, 0, end), np.float32(0))  # negative numbers cut


def log_mel_energies(graph: Graph, waveform: Value, config: LogMelConfig, *, by_row: bool = False) -> Value:
    """Natural logarithms of mel energies (B, T, K).

    The transform of N = P R points is that of Cooley and Tukey (1965): P points of every R-th sample, for each of R
    offsets, then R points across the offsets, for each of the P // 2 + 1 bins that a real signal needs. R divides the
    frame shift, so that the first stage is a convolution over the signal, with the window in its taps: frames are never
    copied. The phases between the stages are in its taps too, so that the second is one product for all bins, and the
    spectra are never transposed.

    Args:
      graph: graph that nodes are added to.
      waveform: (B, S), S = `samples_read` of T frames (`fitted`).
      config: parameters of the features.
      by_row: transform one row after the other: spectra of one clip stay in the processor's cache, of many they do not.
    """
    plan = _fastest(config)
    offsets, bins = plan.offsets, plan.first_bins
    signal = graph.op("Reshape", waveform, [0, -1, offsets])
    taps, tables, weights = _first_stage(graph, plan, config), _second_stage(graph, plan), _mel_weights(plan, config)

    def energies(by_offset: Value) -> Value:
        first = graph.op("Conv", by_offset, taps, group=offsets, strides=[plan.stride], kernel_shape=[plan.taps])
        parts = graph.op("Reshape", first, [0, 2 * offsets, -1])  # (.., offset and part, first bin and frame)
        real, imaginary = (graph.op("MatMul", table, parts) for table in tables)
        power = graph.op("Add", graph.op("Mul", real, real), graph.op("Mul", imaginary, imaginary))
        power = graph.op("Reshape", power, [0, offsets * bins, -1])
        return graph.op("Log", graph.op("Max", graph.op("MatMul", weights, power), np.float32(config.floor)))

    by_offset = graph.op("Transpose", signal, perm=[0, 2, 1])
    logarithms = graph.by_row(energies, by_offset) if by_row else energies(by_offset)
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
    def bins(self) -> Float[np.ndarray, "R P2"]:
        """Bins of the whole transform in the order of the second stage's outputs, P2 = `first_bins`."""
        return np.arange(self.first_bins) + self.points * np.arange(self.offsets)[:, None]


def _fastest(config: LogMelConfig) -> _Plan:
    """The plan with the least products."""
    size, hop = config.fft_size, config.hop_samples
    common = math.gcd(size, hop)
    divisors = [number for number in range(1, common + 1) if common % number == 0]
    plans = [_Plan(each, size // each, -(-config.window_samples // each), hop // each) for each in divisors]
    return min(plans, key=lambda plan: plan.products)


def _first_stage(graph: Graph, plan: _Plan, config: LogMelConfig) -> Value:
    """Taps (C, 1, taps) by offset, part, and bin: the periodic Hann window times waves of the bins."""
    steps, bins = np.arange(plan.taps), np.arange(plan.first_bins)
    samples = plan.offsets * steps + np.arange(plan.offsets)[:, None]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * samples / config.window_samples)
    window = np.where(samples < config.window_samples, window, 0.0).astype(np.float32)
    quarter = config.fft_size // 4
    waves = _cosines(graph, bins[:, None], samples[:, None, None], [[[0]], [[quarter]]], config.fft_size)
    taps = graph.op("Mul", window[:, None, None], waves)  # (offset, part, bin, tap)
    return graph.op("Reshape", taps, [-1, 1, plan.taps])


def _second_stage(graph: Graph, plan: _Plan) -> list[Value]:
    """Weights (R, 2 R) of the real and of the imaginary part, over offsets and the first stage's parts."""
    bins, offsets = np.arange(plan.offsets)[:, None, None], np.arange(plan.offsets)[:, None]
    # In quarters of a step, so that a quarter turn is a whole number for any R.
    tables = (
        _cosines(graph, 4 * bins, offsets, [shift, shift - plan.offsets], 4 * plan.offsets)
        for shift in (0, plan.offsets)
    )
    return [graph.op("Reshape", table, [-1, 2 * plan.offsets]) for table in tables]


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
