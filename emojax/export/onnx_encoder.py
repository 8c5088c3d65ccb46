"""Speech encoders in ONNX, from the waveform to the frames that the network of an acoustic modality gets; Whisper's."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from emojax.encoders import resolve_layers
from emojax.encoders.whisper_encoder import WhisperEncoder
from emojax.encoders.whisper_inputs import FLOOR, HOP, RANGE, WINDOW, whisper_filterbank
from emojax.export.onnx_front_end import Frames, cut_samples, masked
from emojax.export.onnx_graph import BOOL, Graph, Value
from emojax.export.onnx_mel_energies import fitted, log_mel_energies, samples_read
from emojax.export.onnx_network import gelu
from emojax.export.onnx_pooling import pooled
from emojax.export.onnx_speech_encoder import speech_states
from emojax.export.onnx_transformer import transformer_states
from emojax.models import EncoderInputConfig, EncoderPart


def encoder_frames(
    graph: Graph,
    waveform: Value,
    num_samples: Value | None,
    config: Any,
    part: EncoderPart,
    params: Mapping[str, Any],
    statistics: Mapping[str, Any],
) -> tuple[Frames, int]:
    """Computes what `EncoderInput` does: hidden states of the chosen layers, pooled, normalised and combined.

    Args:
      graph: graph that nodes are added to.
      waveform: (B, S).
      num_samples: valid samples of each row, int64 (B,); None: all.
      config: `AcousticInputConfig` of the modality.
      part: its encoder.
      params: parameters of the modality.
      statistics: `mean` and `std` (L, D) of the training corpus; empty without its normalisation.

    Returns:
      Frames and their width.
    """
    chosen = resolve_layers(config.layers, part.num_layers, "model.acoustic.layers")
    if isinstance(part.module, WhisperEncoder):
        states, last = _whisper_states(graph, waveform, num_samples, part.module, params["encoder"])
    else:
        states, last = speech_states(graph, waveform, num_samples, part, params["encoder"])
    layers = [last if layer == part.num_layers else states[layer] for layer in chosen]
    size = part.num_features
    if config.pooling != "none":
        vectors = [pooled(graph, layer, config.pooling, {}) for layer in layers]
        layers = [Frames(graph.op("Unsqueeze", vector, [1])) for vector in vectors]
        size = config.row_size(size)
    if config.combine == "mean":
        layers = [layers[0].replace(graph.op("Mean", *(layer.values for layer in layers)))]
    if config.normalisation == "corpus":
        layers = [_normalised(graph, layer, statistics, row) for row, layer in enumerate(layers)]
    return _combined(graph, layers, config, params, size)


def _normalised(graph: Graph, layer: Frames, statistics: Mapping[str, Any], row: int) -> Frames:
    mean, std = (np.asarray(statistics[name], np.float32)[row] for name in ("mean", "std"))
    values = graph.op("Mul", graph.op("Sub", layer.values, mean), 1.0 / std)
    return layer.replace(values) if layer.lengths is None else masked(graph, values, layer.lengths)


def _combined(
    graph: Graph, layers: list[Frames], config: EncoderInputConfig, params: Mapping[str, Any], size: int
) -> tuple[Frames, int]:
    values = [layer.values for layer in layers]
    if config.combine != "weighted":
        return layers[0].replace(graph.concat(values, 2)), size * len(values)
    scores = np.asarray(params["layer_scores"], np.float64)
    weights = np.exp(scores - scores.max())
    weights = (weights / weights.sum()).astype(np.float32)
    total, *others = (graph.op("Mul", value, weight) for value, weight in zip(values, weights, strict=True))
    for part in others:
        total = graph.op("Add", total, part)
    return layers[0].replace(total), size


def _whisper_states(
    graph: Graph, waveform: Value, num_samples: Value | None, module: Any, params: Mapping[str, Any]
) -> tuple[list[Frames], Frames]:
    """Hidden states of a Whisper encoder; see `transformer_states`."""
    config = module.config
    if module.padded:
        waveform = cut_samples(graph, waveform, num_samples)
        after = graph.op("Sub", [config.max_samples], graph.size(waveform, 1))
        waveform, num_samples = graph.op("Pad", waveform, graph.shape(0, 0, 0, after), np.float32(0)), None
    features = _log_mel(graph, waveform, num_samples, config.num_bands)
    states = _convolutions(graph, features, config, params["feature_encoder"])
    return transformer_states(graph, states, config, params["transformer"])


def _log_mel(graph: Graph, waveform: Value, num_samples: Value | None, bands: int) -> Frames:
    """`whisper_log_mel`: frames centred every 10 ms, the clip reflected at both ends, range limited to its maximum."""
    samples = graph.op("Max", graph.size(waveform, 1), [WINDOW])
    lengths = samples if num_samples is None else graph.op("Max", num_samples, [WINDOW])
    waveform = cut_samples(graph, waveform, num_samples)
    short = graph.op("Sub", samples, graph.size(waveform, 1))
    waveform = graph.op("Pad", waveform, graph.shape(0, 0, 0, short), np.float32(0))
    total = graph.op("Div", samples, [HOP])
    half = WINDOW // 2
    # Sample p of the clip is -p before it, and 2 n - 2 - p after its end at n; further positions are zero.
    positions = graph.op("Sub", graph.positions(graph.op("Add", samples, [WINDOW - HOP])), [half])
    ends = graph.op("Unsqueeze", lengths, [1])
    ahead = graph.op("Abs", positions)
    back = graph.op("Sub", graph.op("Sub", graph.op("Mul", ends, [2]), [2]), positions)
    source = graph.op("Where", graph.op("Less", positions, ends), ahead, back)
    inside = graph.op("Less", positions, graph.op("Add", ends, [half - HOP]))
    last = graph.op("Sub", samples, [1])
    source = graph.op("Max", graph.op("Min", source, last), [0])
    rows = graph.op("Expand", source, graph.shape(graph.size(waveform, 0), 1))
    reflected = graph.op("Where", inside, graph.op("GatherElements", waveform, rows, axis=1), np.float32(0))
    filterbank = whisper_filterbank(bands)
    reflected = fitted(graph, reflected, samples_read(graph, total, filterbank))
    energies = log_mel_energies(graph, reflected, filterbank, by_row=num_samples is not None)
    energies = graph.op("Mul", energies, np.float32(1 / math.log(10)))
    counts = None if num_samples is None else graph.op("Div", lengths, [HOP])
    frames = masked(graph, energies, counts)
    considered = energies
    if frames.mask is not None:
        considered = graph.op("Where", graph.op("Cast", frames.mask, to=BOOL), energies, np.float32(math.log10(FLOOR)))
    lowest = graph.op("Sub", graph.op("ReduceMax", considered, [1, 2]), np.float32(RANGE))
    scaled = graph.op("Mul", graph.op("Add", graph.op("Max", energies, lowest), np.float32(4)), np.float32(0.25))
    return masked(graph, scaled, counts)


def _convolutions(graph: Graph, features: Frames, config: Any, params: Mapping[str, Any]) -> Frames:
    """`WhisperFeatureEncoder`: two convolutions of three taps, the second with stride 2, and positions."""
    frames = features
    for number, stride in ((0, 1), (1, 2)):
        layer = params[f"conv_{number}"]
        kernel = graph.parameter(layer["kernel"], lambda kernel: kernel.transpose(2, 1, 0), axis=0)
        channels_first = graph.op("Transpose", frames.values, perm=[0, 2, 1])
        bias = graph.parameter(layer["bias"])
        convolved = graph.op("Conv", channels_first, kernel, bias, strides=[stride], pads=[1, 1], kernel_shape=[3])
        values = gelu(graph, graph.op("Transpose", convolved, perm=[0, 2, 1]), "none")
        lengths = frames.lengths
        if lengths is not None and stride == 2:
            lengths = graph.op("Div", graph.op("Add", lengths, [1]), [2])
        frames = masked(graph, values, lengths)
    positions = graph.slice(graph.parameter(params["sinusoids"]), 0, 0, graph.size(frames.values, 1))
    return frames.replace(graph.op("Add", frames.values, positions))
