"""The network of a modality in ONNX: convolutions, GRU layers, pooling and the embedding layer of `TCGRU`.

A file for whole clips starts every layer at zeros; one for streams takes its state as inputs and returns the next.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emojax.export.onnx_front_end import Frames
from emojax.export.onnx_graph import INT32, Graph, Value
from emojax.models import TCGRUConfig

LAYER_NORM_EPSILON = 1e-5


class NetworkState:
    """State of a network on a stream: inputs of the graph by name, and outputs that are the inputs of the next call.

    Attributes:
      shapes: shape of every part, without the axis of streams.
    """

    def __init__(self, graph: Graph, keep: Value):
        """Starts without parts.

        Args:
          graph: graph that nodes are added to.
          keep: bool () that is True where a call brings no complete frame, so that the state stays as it is.
        """
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._graph, self._keep = graph, keep
        self._next: dict[str, Value] = {}

    def read(self, name: str, *shape: int) -> Value:
        """Declares the input of a part (B, *shape); all parts are zeros at the start of a stream."""
        self.shapes[name] = shape
        return self._graph.input(f"state_{name}", np.float32, ("batch", *shape))

    def write(self, name: str, value: Value) -> Value:
        """Sets the part after the new frames; returns it, or the part before them where there are none."""
        self._next[name] = self._graph.op("Where", self._keep, f"state_{name}", value)
        return self._next[name]

    def declare_outputs(self) -> None:
        """Declares an output for each part."""
        for name, shape in self.shapes.items():
            self._graph.output(f"next_{name}", self._next[name], np.float32, ("batch", *shape))


def dense(graph: Graph, rows: Value, layer: Mapping[str, Any]) -> Value:
    """rows · kernel + bias, over the last axis."""
    product = graph.op("MatMul", rows, graph.parameter(layer["kernel"]))
    return graph.op("Add", product, graph.parameter(layer["bias"])) if "bias" in layer else product


def layer_norm(graph: Graph, rows: Value, layer: Mapping[str, Any], epsilon: float = LAYER_NORM_EPSILON) -> Value:
    """Layer norm over the last axis."""
    scale, bias = graph.parameter(layer["scale"]), graph.parameter(layer["bias"])
    return graph.op("LayerNormalization", rows, scale, bias, axis=-1, epsilon=epsilon)


def network_frames(
    graph: Graph,
    frames: Frames,
    config: TCGRUConfig,
    params: Mapping[str, Any],
    num_features: int,
    state: NetworkState | None = None,
) -> tuple[Frames, int]:
    """Applies the frame-level layers (`TCGRU.frames`).

    Args:
      graph: graph that nodes are added to.
      frames: features, zero where they are not valid.
      config: sizes.
      params: parameters of the network.
      num_features: D, width of the features.
      state: state of a stream; None: whole clips.

    Returns:
      Frames and their width. Those that are not valid have any value.
    """
    values, size = frames.values, num_features
    if config.conv_channels:
        values = _convolution(graph, values, config, params["convolution"]["Conv_0"], size, state)
        size = config.conv_channels + size
    if config.block_dilations:
        values, size = dense(graph, values, params["to_blocks"]), config.block_channels
        shape = graph.shape(graph.size(values, 0), graph.size(values, 1), size)
        values = graph.op("Reshape", values, [-1, size])  # runtimes add a bias to products of matrices as they compute
        for number, dilation in enumerate(config.block_dilations):
            own = params[f"blocks_{number}"]
            values = _causal_block(graph, values, shape, config, dilation, own, f"block_{number}", state)
        values = graph.op("Reshape", values, shape)
    if config.gru_layers:
        values = graph.op("Transpose", values, perm=[1, 0, 2])
        for number in range(config.gru_layers):
            values = _gru(graph, values, frames.lengths, params[f"gru_{number}"], f"gru_{number}", state)
        values, size = graph.op("Transpose", values, perm=[1, 0, 2]), config.gru_size
    return frames.replace(values), size


def embedding(graph: Graph, pooled: Value, config: TCGRUConfig, params: Mapping[str, Any]) -> Value:
    """Applies the embedding layer to pooled frames (B, P)."""
    if config.embedding_size:
        pooled = dense(graph, pooled, params["embedding"])
    if config.embedding_norm:
        pooled = layer_norm(graph, pooled, params["norm"])
    activations = {"none": None, "relu": "Relu", "tanh": "Tanh"}
    kind = activations[config.embedding_activation]
    return pooled if kind is None else graph.op(kind, pooled)


def _with_context(graph: Graph, values: Value, length: int, size: int, name: str, state: NetworkState | None) -> Value:
    """Frames after the `length` frames before them: those of the stream, or zeros."""
    if not length:
        return values
    if state is None:
        return graph.op("Pad", values, [0, length, 0, 0, 0, 0], np.float32(0))
    padded = graph.concat([state.read(name, length, size), values], 1)
    state.write(name, graph.slice(padded, 1, -length))
    return padded


def _taps(graph: Graph, padded: Value, values: Value, count: int) -> list[Value]:
    """The frames of each tap of a convolution, as many as `values` has."""
    if count == 1:
        return [padded]
    total = graph.size(values, 1)
    return [graph.slice(padded, 1, tap, graph.op("Add", total, [tap])) for tap in range(count)]


def _convolution(
    graph: Graph, values: Value, config: TCGRUConfig, layer: Mapping[str, Any], size: int, state: NetworkState | None
) -> Value:
    """`TimeConvolution` as one product with neighbouring frames, and the features after it."""
    taps, side = config.conv_kernel, config.conv_kernel // 2
    if config.causal:
        padded = _with_context(graph, values, taps - 1, size, "convolution", state)
    else:
        padded = graph.op("Pad", values, [0, side, 0, 0, taps - 1 - side, 0], np.float32(0))
    neighbours = graph.concat(_taps(graph, padded, values, taps), 2)
    kernel = graph.parameter(layer["kernel"], lambda kernel: kernel.reshape(-1, kernel.shape[-1]))
    convolved = graph.op("Add", graph.op("MatMul", neighbours, kernel), graph.parameter(layer["bias"]))
    return graph.concat([graph.op("Relu", convolved), values], 2)


def _causal_block(
    graph: Graph,
    values: Value,
    shape: Value,
    config: TCGRUConfig,
    dilation: int,
    params: Mapping[str, Any],
    name: str,
    state: NetworkState | None,
) -> Value:
    """`CausalBlock` of frames (B T, D); `shape` is (B, T, D)."""
    context, kernel = (config.conv_kernel - 1) * dilation, params["depthwise"]
    frames = graph.op("Reshape", layer_norm(graph, values, params["LayerNorm_0"]), shape)
    if state is not None:
        frames = _with_context(graph, frames, context, config.block_channels, name, state)
    # As images of one row: runtimes have a fast depthwise convolution for two axes only.
    image = graph.op("Transpose", graph.op("Unsqueeze", frames, [1]), perm=[0, 3, 1, 2])
    convolved = graph.op(
        "Conv",
        image,
        graph.parameter(kernel, lambda kernel: np.ascontiguousarray(kernel.T[:, None, None, :]), axis=0),
        graph.parameter(params["bias"]),
        group=config.block_channels,
        dilations=[1, dilation],
        pads=[0, context if state is None else 0, 0, 0],
    )
    convolved = graph.op("Reshape", graph.op("Transpose", convolved, perm=[0, 2, 3, 1]), [-1, config.block_channels])
    return graph.op("Add", values, dense(graph, gelu(graph, convolved, "tanh"), params["dense"]))


def gelu(graph: Graph, values: Value, approximate: str) -> Value:
    """GELU: "tanh", the approximation of `flax.linen.gelu`, or "none", exact."""
    return graph.op("Gelu", values, approximate=approximate)


def _gru(
    graph: Graph,
    values: Value,
    lengths: Value | None,
    params: Mapping[str, Any],
    name: str,
    state: NetworkState | None,
) -> Value:
    """A GRU layer over frames (T, B, D); ONNX has the update gate before the reset gate, and ours after it."""
    size = params["kernel_hh"].shape[0]

    def gates(kernel: np.ndarray) -> np.ndarray:
        reset, update, new = np.split(kernel, 3, axis=-1)
        return np.concatenate([update, reset, new], axis=-1)

    def arrange(kernel: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(gates(kernel).T[None])

    weights = [graph.parameter(params[f"kernel_{part}"], arrange, axis=1) for part in ("ih", "hh")]
    biases = np.concatenate([gates(np.asarray(params[f"bias_{part}"], np.float32)) for part in ("ih", "hh")])
    initial = None
    if state is not None:
        initial = graph.op("Unsqueeze", state.read(name, size), [0])
    lengths = None if lengths is None else graph.op("Cast", lengths, to=INT32)
    states, last = graph.ops(
        "GRU", 2, values, *weights, biases[None], lengths, initial, hidden_size=size, linear_before_reset=1
    )
    if state is not None:
        state.write(name, graph.op("Squeeze", last, [0]))
    return graph.op("Squeeze", states, [1])
