"""Transformer layers of speech encoders in ONNX."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emojax.errors import ConfigError
from emojax.export.onnx_front_end import Frames, masked
from emojax.export.onnx_graph import Graph, Value
from emojax.export.onnx_network import dense, gelu, layer_norm


def transformer_states(
    graph: Graph, states: Frames, config: Any, params: Mapping[str, Any], bias: Value | None = None
) -> tuple[list[Frames], Frames]:
    """Applies the layers of `LayerStack` and the norm after them, where they have one.

    Args:
      graph: graph that nodes are added to.
      states: input of the first layer.
      config: `TransformerConfig`.
      params: parameters of the transformer.
      bias: relative position bias (H, T, T); None: none.

    Returns:
      Input of the first layer and output of each, and the last output after the final norm; zero where not valid.
    """
    kept = [states]
    for number in range(config.num_layers):
        layer = params.get(f"layer_{number}")
        if layer is None:  # `scan_layers`: stacked parameters
            layer = _layer_of(params["layers"], number)
        states = states.replace(_layer(graph, states, config, layer, bias))
        kept.append(states)
    last = states
    if config.norm_first:
        last = states.replace(layer_norm(graph, states.values, params["norm"], config.layer_norm_epsilon))
    if states.lengths is not None:
        *kept, last = (masked(graph, each.values, each.lengths) for each in (*kept, last))
    return kept, last


def activated(graph: Graph, values: Value, name: str) -> Value:
    """Applies an activation by its name in `emojax.encoders.layers.ACTIVATIONS`."""
    if name == "gelu":
        return gelu(graph, values, "none")
    if name in ("gelu_new", "gelu_pytorch_tanh"):
        return gelu(graph, values, "tanh")
    if name == "relu":
        return graph.op("Relu", values)
    if name in ("silu", "swish"):
        return graph.op("Mul", values, graph.op("Sigmoid", values))
    raise ConfigError(f"ONNX export has no activation {name!r}")


def _layer_of(stacked: Any, number: int) -> Any:
    if isinstance(stacked, Mapping):
        return {name: _layer_of(value, number) for name, value in stacked.items()}
    return np.asarray(stacked)[number]


def _layer(graph: Graph, states: Frames, config: Any, params: Mapping[str, Any], bias: Value | None) -> Value:
    """A transformer layer, with layer norm before or after each part (`TransformerLayer`)."""
    values, epsilon = states.values, config.layer_norm_epsilon

    def attend(inputs: Value) -> Value:
        return _attention(graph, inputs, states.mask, config, params["attention"], bias)

    def feed_forward(inputs: Value) -> Value:
        inner = activated(graph, dense(graph, inputs, params["mlp_in"]), config.activation)
        return dense(graph, inner, params["mlp_out"])

    for part, norm in ((attend, params["attention_norm"]), (feed_forward, params["mlp_norm"])):
        if config.norm_first:
            values = graph.op("Add", values, part(layer_norm(graph, values, norm, epsilon)))
        else:
            values = layer_norm(graph, graph.op("Add", values, part(values)), norm, epsilon)
    return values


def _attention(
    graph: Graph, states: Value, mask: Value | None, config: Any, params: Mapping[str, Any], bias: Value | None
) -> Value:
    """Self-attention over valid frames, with WavLM's gated position bias if there is one."""
    heads, width = config.num_heads, config.hidden_size // config.num_heads

    def divided(values: Value, perm: Sequence[int]) -> Value:
        return graph.op("Transpose", graph.op("Reshape", values, [0, 0, heads, width]), perm=list(perm))

    def project(name: str, perm: Sequence[int]) -> Value:
        return divided(dense(graph, states, params[name]), perm)

    query = graph.op("Mul", project("query", [0, 2, 1, 3]), np.float32(width**-0.5))
    logits = graph.op("MatMul", query, project("key", [0, 2, 3, 1]))
    if bias is not None:
        gate = _gate(graph, divided(states, [0, 2, 1, 3]), params["gate"])
        logits = graph.op("Add", logits, graph.op("Mul", gate, bias))
    if mask is not None:  # (B, T, 1): 0 on valid frames, far below any logit on others
        floor = graph.op("Mul", graph.op("Sub", mask, np.float32(1)), np.float32(1e9))
        logits = graph.op("Add", logits, graph.op("Unsqueeze", graph.op("Transpose", floor, perm=[0, 2, 1]), [1]))
    attended = graph.op("MatMul", graph.op("Softmax", logits, axis=-1), project("value", [0, 2, 1, 3]))
    joined = graph.op("Reshape", graph.op("Transpose", attended, perm=[0, 2, 1, 3]), [0, 0, heads * width])
    return dense(graph, joined, params["output"])


def _gate(graph: Graph, per_head: Value, params: Mapping[str, Any]) -> Value:
    """`RelativePositionGate` (B, H, T, 1) of states (B, H, T, F)."""
    projected = dense(graph, per_head, params["dense"])  # two gates of four features each
    sums = [graph.op("ReduceSum", graph.slice(projected, 3, start, start + 4), [3]) for start in (0, 4)]
    first, second = (graph.op("Sigmoid", each) for each in sums)
    inner = graph.op("Sub", graph.op("Mul", second, graph.parameter(params["constant"])), np.float32(1))
    return graph.op("Add", graph.op("Mul", first, inner), np.float32(2))
