"""Whole models in ONNX: of whole clips, and of a stream with its state as inputs and outputs."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from emojax.export.description import Description
from emojax.export.onnx_encoder import encoder_frames
from emojax.export.onnx_front_end import Frames, log_mel_frames, masked, prepared_frames
from emojax.export.onnx_graph import Graph, Value
from emojax.export.onnx_mel_energies import fitted, log_mel_energies, samples_read
from emojax.export.onnx_network import NetworkState, dense, embedding, network_frames
from emojax.export.onnx_pooling import pooled, pooled_stream
from emojax.models.rating_head import logit_scale
from emojax.types import NUM_ATTRIBUTES
from emojax.workdir import TrainedModel

WAVEFORM, NUM_SAMPLES = "waveform", "num_samples"
"""Names of the inputs: 16 kHz mono, full scale 1.0; valid samples of each row."""


def clip_model(
    trained: TrainedModel, description: Description, *, quantised: bool = False, single: bool = False
) -> Any:
    """Writes a model of whole clips as an `onnx.ModelProto`.

    Inputs: `waveform` float32 (batch, samples), `num_samples` int64 (batch); samples after those of a row never matter.
    Outputs: see `Description`.

    Args:
      trained: model with one modality of the waveform.
      description: outputs and metadata.
      quantised: store matrices as 8-bit integers.
      single: the batch is one clip, and there is no `num_samples`.
    """
    graph = Graph(quantised)
    config, variables = trained.config.model, jax.device_get(trained.variables)
    params = variables["params"]
    (modality,) = config.modalities
    waveform = graph.input(WAVEFORM, np.float32, (1 if single else "batch", "samples"))
    num_samples = None if single else graph.input(NUM_SAMPLES, np.int64, ("batch",))
    statistics = variables.get("statistics", {}).get(modality, {})
    if modality == "log_mel":
        energies = log_mel_frames(graph, waveform, num_samples, config.log_mel)
        frames = prepared_frames(graph, energies, config.log_mel, statistics)
        size = _stacked_size(config.log_mel)
    else:
        part = trained.model.encoders["acoustic"]
        own = params["acoustic"]
        frames, size = encoder_frames(graph, waveform, num_samples, config.acoustic, part, own, statistics)
    network, own = config.network(modality), params.get(f"{modality}_network", {})
    computed, _ = network_frames(graph, frames, network, own, size)
    if computed.lengths is not None:  # frames that are not valid become zero
        computed = masked(graph, computed.values, computed.lengths)
    joint = embedding(graph, pooled(graph, computed, network.pooling, own.get("attention", {})), network, own)
    _declare_outputs(graph, trained, description, params["heads"], joint, 1 if single else "batch")
    return graph.model(description.name, description.texts())


def stream_model(trained: TrainedModel, description: Description, *, quantised: bool = False) -> Any:
    """Writes a model of a stream as an `onnx.ModelProto`.

    Inputs: `waveform` float32 (batch, samples), new samples, any number, and the state, one input `state_NAME` per
    part, zeros at the start (`state_waiting` has 0 samples then). Outputs: those of the model for all samples so far,
    without meaning as long as `next_frames` is 0, and `next_NAME` per part of the state.

    Args:
      trained: log-mel model that can run on a stream (see `stream_obstacle`).
      description: outputs and metadata; the file also has `stream_state`, the shape of each part without the batch.
      quantised: store matrices as 8-bit integers.
    """
    graph = Graph(quantised)
    config, variables = trained.config.model, jax.device_get(trained.variables)
    settings, params = config.log_mel, variables["params"]
    filterbank, network = settings.filterbank, settings.network
    hop, window, step = filterbank.hop_samples, filterbank.window_samples, filterbank.hop_samples * settings.stack
    new = graph.input(WAVEFORM, np.float32, ("batch", "samples"))
    waiting = graph.input("state_waiting", np.float32, ("batch", "waiting"))
    samples = graph.concat([waiting, new], 1)
    # Number of complete stacks of frames; where there is none, one is computed from zeros and not used.
    complete = graph.op("Div", graph.op("Sub", graph.size(samples, 1), [window - hop]), [step])
    complete = graph.op("Max", complete, [0])
    keep = graph.op("Squeeze", graph.op("Equal", complete, [0]), [0])
    state = NetworkState(graph, keep)
    total = graph.op("Mul", graph.op("Max", complete, [1]), [settings.stack])
    energies = log_mel_energies(graph, fitted(graph, samples, samples_read(graph, total, filterbank)), filterbank)
    statistics = variables.get("statistics", {}).get("log_mel", {})
    frames = prepared_frames(graph, Frames(energies), settings, statistics)
    own = params.get("log_mel_network", {})
    computed, size = network_frames(graph, frames, network, own, _stacked_size(settings), state)
    vector, _ = pooled_stream(graph, computed.values, size, network.pooling, own.get("attention", {}), state)
    joint = embedding(graph, vector, network, own)
    _declare_outputs(graph, trained, description, params["heads"], joint, "batch")
    rest = graph.slice(samples, 1, graph.op("Mul", complete, [step]))
    graph.output("next_waiting", rest, np.float32, ("batch", "next_waiting"))
    state.declare_outputs()
    shapes = {"waiting": (0,), **state.shapes}
    return graph.model(description.name, {**description.texts(), "stream_state": json.dumps(shapes)})


def _stacked_size(settings: Any) -> int:
    """Features of a frame that the network gets."""
    return settings.filterbank.num_bands * (settings.deltas.order + 1) * settings.stack


def _declare_outputs(
    graph: Graph,
    trained: TrainedModel,
    description: Description,
    heads: Mapping[str, Any],
    joint: Value,
    batch: int | str,
) -> None:
    """Output heads: `EmotionHeads`, in the scale of the corpus; probabilities of categories and of ratings."""
    low, high = description.scale
    columns = np.array(description.columns, np.int64)
    bins = len(description.rating_values)
    if bins:
        rows = graph.shape(graph.size(joint, 0), NUM_ATTRIBUTES, bins)
        logits = graph.op("Reshape", dense(graph, joint, heads["ratings"]), rows)
        logits = graph.op("Mul", logits, np.float32(logit_scale(bins)))
        probabilities = graph.op("Gather", graph.op("Softmax", logits, axis=2), columns, axis=1)
        values = np.linspace(0.0, 1.0, bins, dtype=np.float32)[:, None]
        attributes = graph.op("Squeeze", graph.op("MatMul", probabilities, values), [2])
    elif description.attributes:
        attributes = graph.op("Gather", dense(graph, joint, heads["attributes"]), columns, axis=1)
    if description.attributes:
        if trained.config.model.clip_attributes:
            attributes = graph.op("Clip", attributes, np.float32(0), np.float32(1))
        attributes = graph.op("Add", graph.op("Mul", attributes, np.float32(high - low)), np.float32(low))
        graph.output("attributes", attributes, np.float32, (batch, len(columns)))
    if description.categories:
        categories = graph.op("Softmax", dense(graph, joint, heads["categories"]), axis=1)
        graph.output("categories", categories, np.float32, (batch, len(description.categories)))
    if bins:
        graph.output("ratings", probabilities, np.float32, (batch, len(columns), bins))
    size = next(iter(heads.values()))["kernel"].shape[0]
    graph.output("embedding", joint, np.float32, (batch, size))
