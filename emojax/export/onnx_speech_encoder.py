"""HuBERT, wav2vec 2.0 and WavLM in ONNX: normalised waveforms, convolutions, positions and transformer layers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emojax.encoders.attention import position_buckets
from emojax.encoders.speech_config import ConvolutionConfig, SpeechEncoderConfig
from emojax.encoders.waveform_inputs import STD_FLOOR, VARIANCE_FLOOR, WaveformSettings
from emojax.export.onnx_front_end import Frames, cut_samples, masked, masked_mean
from emojax.export.onnx_graph import Graph, Value
from emojax.export.onnx_network import dense, layer_norm
from emojax.export.onnx_transformer import activated, transformer_states
from emojax.models import EncoderPart

_EPSILON = 1e-5
"""Of the norms of the convolutions and of the batch norm."""

_MOST_FRAMES = 1 << 14
"""Largest distance in the table of WavLM's relative positions; all further ones are in the last bucket."""


def speech_states(
    graph: Graph, waveform: Value, num_samples: Value | None, part: EncoderPart, params: Mapping[str, Any]
) -> tuple[list[Frames], Frames]:
    """Computes the hidden states of `SpeechEncoder`; see `transformer_states`.

    Clips shorter than the receptive field are extended by zeros to it.

    Args:
      graph: graph that nodes are added to.
      waveform: (B, S).
      num_samples: valid samples of each row, int64 (B,); None: all.
      part: encoder.
      params: its parameters.
    """
    module: Any = part.module
    inputs: Any = part.inputs
    config: SpeechEncoderConfig = module.config
    least = config.convolution.receptive_field
    waveform = cut_samples(graph, waveform, num_samples)
    missing = graph.op("Max", graph.op("Sub", [least], graph.size(waveform, 1)), [0])
    waveform = graph.op("Pad", waveform, graph.shape(0, 0, 0, missing), np.float32(0))
    lengths = None if num_samples is None else graph.op("Max", num_samples, [least])
    samples = _normalised(graph, masked(graph, graph.op("Unsqueeze", waveform, [2]), lengths), inputs.settings)
    features = _convolutions(graph, samples, config.convolution, params["feature_encoder"])
    values, projection = features.values, params["feature_projection"]
    if config.projection_norm:
        values = layer_norm(graph, values, projection["norm"], config.layer_norm_epsilon)
    states = masked(graph, dense(graph, values, projection["dense"]), features.lengths)
    transformer = params["transformer"]
    position = _positions(graph, states, config, transformer["positional_convolution"])
    values = graph.op("Add", states.values, position)
    if not config.norm_first:
        values = layer_norm(graph, values, transformer["norm"], config.layer_norm_epsilon)
    bias = None
    if config.num_buckets:
        bias = _relative_positions(graph, graph.size(values, 1), config, transformer["relative_position"])
    return transformer_states(graph, states.replace(values), config, transformer, bias)


def _normalised(graph: Graph, samples: Frames, settings: WaveformSettings) -> Frames:
    """`WaveformInputs.__call__` of samples (B, S, 1)."""
    if settings.do_normalize:
        centred = masked(graph, graph.op("Sub", samples.values, masked_mean(graph, samples)), samples.lengths)
        variance = masked_mean(graph, centred.replace(graph.op("Mul", centred.values, centred.values)))
        deviation = graph.op("Sqrt", graph.op("Add", variance, np.float32(VARIANCE_FLOOR)))
        return centred.replace(graph.op("Div", centred.values, deviation))
    if settings.waveform_std is None:
        return samples
    centred_values = graph.op("Sub", samples.values, np.float32(settings.waveform_mean))
    scaled = graph.op("Div", centred_values, np.float32(settings.waveform_std + STD_FLOOR))
    return masked(graph, scaled, samples.lengths)


def _convolutions(graph: Graph, samples: Frames, config: ConvolutionConfig, params: Mapping[str, Any]) -> Frames:
    """`FeatureEncoder`: strided convolutions; frames after the valid ones have any value."""
    frames = samples
    for number, (taps, stride) in enumerate(zip(config.kernels, config.strides, strict=True)):
        layer = params[f"conv_{number}"]
        convolved = _convolution(graph, frames.values, layer["conv"], strides=[stride], kernel_shape=[taps])
        lengths = frames.lengths
        if lengths is not None:
            lengths = graph.op("Add", graph.op("Div", graph.op("Sub", lengths, [taps]), [stride]), [1])
        frames = Frames(convolved, lengths)
        if config.norm == "layer":
            frames = frames.replace(layer_norm(graph, convolved, layer["norm"], _EPSILON))
        elif number == 0:
            frames = frames.replace(_channel_norm(graph, masked(graph, convolved, lengths), layer["norm"]))
        frames = frames.replace(activated(graph, frames.values, config.activation))
    return frames


def _convolution(graph: Graph, values: Value, layer: Mapping[str, Any], **attributes: Any) -> Value:
    """A convolution over frames (B, T, C)."""
    kernel = graph.parameter(layer["kernel"], lambda kernel: kernel.transpose(2, 1, 0), axis=0)
    bias = graph.parameter(layer["bias"]) if "bias" in layer else None
    channels_first = graph.op("Transpose", values, perm=[0, 2, 1])
    operands = [channels_first, kernel] if bias is None else [channels_first, kernel, bias]
    return graph.op("Transpose", graph.op("Conv", *operands, **attributes), perm=[0, 2, 1])


def _channel_norm(graph: Graph, frames: Frames, params: Mapping[str, Any]) -> Value:
    """`MaskedChannelNorm`: every channel by its statistics over the valid frames."""
    centred = masked(graph, graph.op("Sub", frames.values, masked_mean(graph, frames)), frames.lengths)
    variance = masked_mean(graph, centred.replace(graph.op("Mul", centred.values, centred.values)))
    deviation = graph.op("Sqrt", graph.op("Add", variance, np.float32(_EPSILON)))
    scaled = graph.op("Mul", graph.op("Div", centred.values, deviation), graph.parameter(params["scale"]))
    return graph.op("Add", scaled, graph.parameter(params["bias"]))


def _positions(graph: Graph, states: Frames, config: SpeechEncoderConfig, params: Mapping[str, Any]) -> Value:
    """`PositionalConvolution` of states that are zero where they are not valid."""
    if config.position_batch_norm:
        norm = {name: np.asarray(values, np.float64) for name, values in params["batch_norm"].items()}
        gain = norm["scale"] / np.sqrt(norm["variance"] + _EPSILON)
        offset = norm["bias"] - norm["mean"] * gain
        scaled = graph.op("Mul", states.values, gain.astype(np.float32))
        values = graph.op("Add", scaled, offset.astype(np.float32))
        states = masked(graph, values, states.lengths)
    taps = config.position_taps
    pads = [taps // 2, taps - 1 - taps // 2]
    convolved = _convolution(graph, states.values, params, group=config.position_groups, pads=pads, kernel_shape=[taps])
    return activated(graph, convolved, config.convolution.activation)


def _relative_positions(graph: Graph, frames: Value, config: SpeechEncoderConfig, params: Mapping[str, Any]) -> Value:
    """`RelativePosition` (H, T, T): a value per head and bucket of distances."""
    distances = np.arange(-_MOST_FRAMES, _MOST_FRAMES + 1)
    buckets = position_buckets(distances, config.num_buckets, config.max_distance)
    steps = graph.positions(frames)
    apart = graph.op("Sub", graph.op("Unsqueeze", steps, [0]), graph.op("Unsqueeze", steps, [1]))
    apart = graph.op("Max", graph.op("Min", graph.op("Add", apart, [_MOST_FRAMES]), [2 * _MOST_FRAMES]), [0])
    table = graph.parameter(params["embedding"], lambda table: table.T, axis=0)
    return graph.op("Gather", table, graph.op("Gather", buckets, apart, axis=0), axis=1)
