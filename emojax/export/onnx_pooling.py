"""Pooling kinds in ONNX, of whole clips and of streams: `emojax.models.pooling`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emojax.export.onnx_front_end import Frames, masked_mean
from emojax.export.onnx_graph import BOOL, FLOAT, Graph, Value
from emojax.export.onnx_network import NetworkState, dense
from emojax.models.pooling import LEAST_VARIANCE, VARIANCE_FLOOR

_LOWEST = np.finfo(np.float32).min


def pooled(graph: Graph, frames: Frames, kind: str, params: Mapping[str, Any]) -> Value:
    """Pools whole clips.

    Args:
      graph: graph that nodes are added to.
      frames: (B, T, D), zero where they are not valid; every row has a valid frame.
      kind: name in `POOLINGS`.
      params: parameters of the kind.
    """
    values = frames.values
    if kind == "last":
        return _last(graph, frames)
    if kind == "first":
        return graph.op("Squeeze", graph.slice(values, 1, 0, 1), [1])
    if kind == "max":
        if frames.mask is not None:
            values = graph.op("Where", graph.op("Cast", frames.mask, to=BOOL), values, np.float32(_LOWEST))
        return graph.op("ReduceMax", values, [1], keepdims=0)
    if kind == "sum":
        return graph.op("ReduceSum", values, [1], keepdims=0)
    if kind in ("mean", "statistics"):
        mean = masked_mean(graph, frames)
        parts = [mean]
        if kind == "statistics":
            distance = graph.op("Sub", values, mean)
            if frames.mask is not None:
                distance = graph.op("Mul", distance, frames.mask)
            variance = masked_mean(graph, frames.replace(graph.op("Mul", distance, distance)))
            parts.append(graph.op("Sqrt", graph.op("Add", variance, np.float32(VARIANCE_FLOOR))))
        return graph.op("Squeeze", graph.concat(parts, 2), [1])
    return _attentive(graph, frames, kind == "attentive_statistics", params)


def pooled_stream(
    graph: Graph, values: Value, size: int, kind: str, params: Mapping[str, Any], state: NetworkState
) -> tuple[Value, Value]:
    """Pools all frames of a stream so far.

    Args:
      graph: graph that nodes are added to.
      values: new frames (B, T, D), at least one.
      size: D.
      kind: name in `POOLINGS`.
      params: parameters of the kind.
      state: state of the stream.

    Returns:
      The pooled vectors (B, P), and the number of frames so far (B, 1).
    """
    before = state.read("frames", 1)
    added = graph.op("Cast", graph.size(values, 1), to=FLOAT)
    count = state.write("frames", graph.op("Add", before, added))
    started = graph.op("Greater", before, np.float32(0))
    if kind in ("mean", "statistics"):
        return _running_moments(graph, values, size, kind == "statistics", state, (before, added, count)), count
    if kind in ("attentive", "attentive_statistics"):
        return _running_attention(graph, values, size, kind == "attentive_statistics", params, state, started), count
    old = state.read(kind, size)
    if kind == "last":
        new = graph.op("Squeeze", graph.slice(values, 1, -1), [1])
    elif kind == "first":
        first = graph.op("Squeeze", graph.slice(values, 1, 0, 1), [1])
        new = graph.op("Where", started, old, first)
    elif kind == "max":
        largest = graph.op("ReduceMax", values, [1], keepdims=0)
        new = graph.op("Where", started, graph.op("Max", old, largest), largest)
    else:
        new = graph.op("Add", old, graph.op("ReduceSum", values, [1], keepdims=0))
    return state.write(kind, new), count


def _last(graph: Graph, frames: Frames) -> Value:
    if frames.lengths is None:
        return graph.op("Squeeze", graph.slice(frames.values, 1, -1), [1])
    last = graph.op("Unsqueeze", graph.op("Sub", frames.lengths, [1]), [1])
    return graph.op("GatherND", frames.values, last, batch_dims=1)


def _scores(graph: Graph, values: Value, params: Mapping[str, Any]) -> Value:
    """Logarithms of the weights (B, T, 1), up to a constant."""
    hidden = graph.op("Tanh", dense(graph, values, params["hidden"]))
    return graph.op("MatMul", hidden, graph.parameter(params["vector"]))


def _finished(graph: Graph, mean: Value, square: Value | None) -> Value:
    """Weighted mean and, from the weighted mean of squares, standard deviation."""
    if square is None:
        return mean
    variance = graph.op("Sub", square, graph.op("Mul", mean, mean))
    deviation = graph.op("Sqrt", graph.op("Max", variance, np.float32(LEAST_VARIANCE)))
    return graph.concat([mean, deviation], 1)


def _attentive(graph: Graph, frames: Frames, deviation: bool, params: Mapping[str, Any]) -> Value:
    values, scores = frames.values, _scores(graph, frames.values, params)
    if frames.mask is not None:
        scores = graph.op("Where", graph.op("Cast", frames.mask, to=BOOL), scores, np.float32(_LOWEST))
    weights = graph.op("Softmax", scores, axis=1)
    mean = graph.op("ReduceSum", graph.op("Mul", weights, values), [1], keepdims=0)
    square = None
    if deviation:
        squares = graph.op("Mul", weights, graph.op("Mul", values, values))
        square = graph.op("ReduceSum", squares, [1], keepdims=0)
    return _finished(graph, mean, square)


def _running_moments(
    graph: Graph,
    values: Value,
    size: int,
    deviation: bool,
    state: NetworkState,
    counts: tuple[Value, Value, Value],
) -> Value:
    """`StatisticsPooling.update` and `finish`."""
    before, added, count = counts
    old = state.read("mean", size)
    new = graph.op("ReduceMean", values, [1])
    # Where no frame is complete at the start of a stream, the share has no meaning and must only be finite.
    share = graph.op("Div", added, graph.op("Add", before, added))
    shift = graph.op("Sub", graph.op("Squeeze", new, [1]), old)
    mean = state.write("mean", graph.op("Add", old, graph.op("Mul", shift, share)))
    if not deviation:
        return mean
    distance = graph.op("Sub", values, new)
    inside = graph.op("ReduceSum", graph.op("Mul", distance, distance), [1], keepdims=0)
    between = graph.op("Mul", graph.op("Mul", shift, shift), graph.op("Mul", before, share))
    total = graph.op("Add", state.read("squares", size), graph.op("Add", inside, between))
    variance = graph.op("Div", state.write("squares", total), graph.op("Max", count, np.float32(1)))
    return graph.concat([mean, graph.op("Sqrt", graph.op("Add", variance, np.float32(VARIANCE_FLOOR)))], 1)


def _running_attention(
    graph: Graph,
    values: Value,
    size: int,
    deviation: bool,
    params: Mapping[str, Any],
    state: NetworkState,
    started: Value,
) -> Value:
    """`AttentivePooling.update` and `finish`."""
    scores = graph.op("Squeeze", _scores(graph, values, params), [2])
    largest = graph.op("ReduceMax", scores, [1])
    old_largest = graph.op("Where", started, state.read("largest", 1), largest)
    largest = graph.op("Max", old_largest, largest)
    kept = graph.op("Mul", state.read("weight", 1), graph.op("Exp", graph.op("Sub", old_largest, largest)))
    weights = graph.op("Exp", graph.op("Sub", scores, largest))
    weight = graph.op("Add", kept, graph.op("ReduceSum", weights, [1]))
    old = graph.op("Div", kept, weight)
    new = graph.op("Unsqueeze", graph.op("Div", weights, weight), [2])
    state.write("largest", largest)
    state.write("weight", weight)

    def merged(name: str, frames: Value) -> Value:
        added = graph.op("ReduceSum", graph.op("Mul", new, frames), [1], keepdims=0)
        return state.write(name, graph.op("Add", graph.op("Mul", old, state.read(name, size)), added))

    mean = merged("mean", values)
    return _finished(graph, mean, merged("square", graph.op("Mul", values, values)) if deviation else None)
