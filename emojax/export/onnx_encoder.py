"""Whisper's encoder in ONNX, from the waveform to the frames that the network of an acoustic modality gets."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from emojax.encoders import resolve_layers
from emojax.encoders.whisper_inputs import FLOOR, HOP, RANGE, WINDOW, whisper_filterbank
from emojax.export.onnx_front_end import Frames, cut_samples, log_mel_energies, masked
from emojax.export.onnx_graph import BOOL, Graph, Value
from emojax.export.onnx_network import dense, gelu_erf, layer_norm
from emojax.export.onnx_pooling import pooled
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
      part: its encoder, of Whisper's family.
      params: parameters of the modality.
      statistics: `mean` and `std` (L, D) of the training corpus; empty without its normalisation.

    Returns:
      Frames and their width.
    """
    chosen = resolve_layers(config.layers, part.num_layers, "model.acoustic.layers")
    states, size = _hidden_states(graph, waveform, num_samples, part.module, params["encoder"])
    layers = [states[0].replace(states[layer].values) for layer in chosen]
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


def _hidden_states(
    graph: Graph, waveform: Value, num_samples: Value | None, module: Any, params: Mapping[str, Any]
) -> tuple[list[Frames], int]:
    """Input of the first layer and output of each, the last one after the final norm; zero on frames not valid."""
    config = module.config
    if module.padded:
        waveform = cut_samples(graph, waveform, num_samples)
        after = graph.op("Sub", [config.max_samples], graph.size(waveform, 1))
        waveform, num_samples = graph.op("Pad", waveform, graph.shape(0, 0, 0, after), np.float32(0)), None
    features = _log_mel(graph, waveform, num_samples, config.num_bands)
    states = _convolutions(graph, features, config, params["feature_encoder"])
    kept = [states]
    for number in range(config.num_layers):
        layer = params["transformer"].get(f"layer_{number}")
        if layer is None:  # `scan_layers`: stacked parameters
            layer = _layer_of(params["transformer"]["layers"], number)
        states = states.replace(_layer(graph, states, config, layer))
        kept.append(states)
    last = layer_norm(graph, states.values, params["transformer"]["norm"], config.layer_norm_epsilon)
    kept[-1] = states.replace(last)
    if states.lengths is not None:
        kept = [masked(graph, each.values, each.lengths) for each in kept]
    return kept, config.hidden_size


def _layer_of(stacked: Any, number: int) -> Any:
    if isinstance(stacked, Mapping):
        return {name: _layer_of(value, number) for name, value in stacked.items()}
    return np.asarray(stacked)[number]


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
    energies = log_mel_energies(graph, reflected, total, whisper_filterbank(bands))
    energies = graph.op("Mul", energies, np.float32(1 / math.log(10)))
    counts = None if num_samples is None else graph.op("Div", lengths, [HOP])
    frames = masked(graph, energies, counts)
    considered = energies
    if frames.mask is not None:
        considered = graph.op("Where", graph.op("Cast", frames.mask, to=BOOL), energies, np.float32(math.log10(FLOOR)))
    lowest = graph.op("Sub", graph.op("ReduceMax", considered, axes=[1, 2]), np.float32(RANGE))
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
        values = gelu_erf(graph, graph.op("Transpose", convolved, perm=[0, 2, 1]))
        lengths = frames.lengths
        if lengths is not None and stride == 2:
            lengths = graph.op("Div", graph.op("Add", lengths, [1]), [2])
        frames = masked(graph, values, lengths)
    positions = graph.slice(graph.parameter(params["sinusoids"]), 0, 0, graph.size(frames.values, 1))
    return frames.replace(graph.op("Add", frames.values, positions))


def _layer(graph: Graph, states: Frames, config: Any, params: Mapping[str, Any]) -> Value:
    """A pre-norm transformer layer (`SpeechLayer`)."""
    values, epsilon = states.values, config.layer_norm_epsilon
    normalised = layer_norm(graph, values, params["attention_norm"], epsilon)
    values = graph.op("Add", values, _attention(graph, normalised, states.mask, config, params["attention"]))
    inner = gelu_erf(graph, dense(graph, layer_norm(graph, values, params["mlp_norm"], epsilon), params["mlp_in"]))
    return graph.op("Add", values, dense(graph, inner, params["mlp_out"]))


def _attention(graph: Graph, states: Value, mask: Value | None, config: Any, params: Mapping[str, Any]) -> Value:
    """Self-attention over valid frames."""
    heads, width = config.num_heads, config.hidden_size // config.num_heads

    def project(name: str, perm: list[int]) -> Value:
        projected = graph.op("Reshape", dense(graph, states, params[name]), [0, 0, heads, width])
        return graph.op("Transpose", projected, perm=perm)

    query = graph.op("Mul", project("query", [0, 2, 1, 3]), np.float32(width**-0.5))
    logits = graph.op("MatMul", query, project("key", [0, 2, 3, 1]))
    if mask is not None:  # (B, T, 1): 0 on valid frames, far below any logit on others
        floor = graph.op("Mul", graph.op("Sub", mask, np.float32(1)), np.float32(1e9))
        logits = graph.op("Add", logits, graph.op("Unsqueeze", graph.op("Transpose", floor, perm=[0, 2, 1]), [1]))
    attended = graph.op("MatMul", graph.op("Softmax", logits, axis=-1), project("value", [0, 2, 1, 3]))
    joined = graph.op("Reshape", graph.op("Transpose", attended, perm=[0, 2, 1, 3]), [0, 0, heads * width])
    return dense(graph, joined, params["output"])
