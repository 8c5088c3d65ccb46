"""Log-mel input of networks in ONNX: frames with their lengths, normalised, with deltas, stacked."""

import dataclasses

import numpy as np

from emojax.audio import LogMelConfig
from emojax.audio.features import VARIANCE_FLOOR
from emojax.export.onnx_graph import FLOAT, Graph, Value
from emojax.export.onnx_mel_energies import fitted, log_mel_energies, samples_read
from emojax.models import LogMelInputConfig


@dataclasses.dataclass(frozen=True)
class Frames:
    """Feature frames of a batch.

    Attributes:
      values: (B, T, D).
      lengths: valid frames of each row, int64 (B,); None: all of every row.
      mask: 1 on valid frames, float32 (B, T, 1); None: all.
    """

    values: Value
    lengths: Value | None = None
    mask: Value | None = None

    def replace(self, values: Value) -> "Frames":
        """The same lengths with other values."""
        return dataclasses.replace(self, values=values)


def masked(graph: Graph, values: Value, lengths: Value | None) -> Frames:
    """Frames with the mask of their lengths; those after the end become zero."""
    if lengths is None:
        return Frames(values)
    positions = graph.positions(graph.size(values, 1))
    inside = graph.op("Less", positions, graph.op("Unsqueeze", lengths, [1]))
    mask = graph.op("Unsqueeze", graph.op("Cast", inside, to=FLOAT), [2])
    return Frames(graph.op("Mul", values, mask), lengths, mask)


def cut_samples(graph: Graph, waveform: Value, num_samples: Value | None) -> Value:
    """Sets the samples after the end of each row to zero."""
    if num_samples is None:
        return waveform
    positions = graph.positions(graph.size(waveform, 1))
    inside = graph.op("Less", positions, graph.op("Unsqueeze", num_samples, [1]))
    return graph.op("Where", inside, waveform, np.float32(0))


def num_frames(graph: Graph, num_samples: Value, config: LogMelConfig) -> Value:
    """Complete frames of clips, at least one: `emojax.audio.log_mel.num_frames`."""
    later = graph.op("Div", graph.op("Sub", num_samples, [config.window_samples]), [config.hop_samples])
    return graph.op("Max", graph.op("Add", later, [1]), [1])


def log_mel_frames(graph: Graph, waveform: Value, num_samples: Value | None, config: LogMelInputConfig) -> Frames:
    """Log-mel input of a network: energies, normalised, with deltas, stacked.

    Clips shorter than one (stacked) frame are extended by zeros to one.

    Args:
      graph: graph that nodes are added to.
      waveform: (B, S).
      num_samples: valid samples of each row, int64 (B,); None: all.
      config: config of the modality.
    """
    filterbank = config.filterbank
    least = max(config.min_samples, filterbank.window_samples)
    total = num_frames(graph, graph.op("Max", graph.size(waveform, 1), [least]), filterbank)
    read = samples_read(graph, total, filterbank)
    if num_samples is None:
        return Frames(log_mel_energies(graph, fitted(graph, waveform, read), filterbank))
    # Frames lie inside of their clips: samples after the end matter to clips alone that are extended to one frame.
    length = graph.op("Min", graph.op("Min", graph.size(waveform, 1), read), [least])
    first = cut_samples(graph, graph.slice(waveform, 1, 0, length), num_samples)
    complete = graph.concat([first, fitted(graph, waveform, read, skipped=length)], 1)
    lengths = num_frames(graph, graph.op("Max", num_samples, [least]), filterbank)
    return Frames(log_mel_energies(graph, complete, filterbank, by_row=True), lengths)


def prepared_frames(graph: Graph, energies: Frames, config: LogMelInputConfig, statistics: dict) -> Frames:
    """Normalises log-mel energies, appends deltas and stacks frames, as `LogMelInput` does.

    Args:
      graph: graph that nodes are added to.
      energies: (B, T, K), not masked.
      config: config of the modality.
      statistics: `mean` and `std` (K,) of the training corpus; empty without its normalisation.
    """
    values = energies.values
    if config.normalisation == "corpus":
        values = graph.op("Sub", values, np.asarray(statistics["mean"], np.float32))
        values = graph.op("Mul", values, 1.0 / np.asarray(statistics["std"], np.float32))
    if config.stack > 1 and config.normalisation != "utterance" and not config.deltas.order:
        frames = Frames(values, energies.lengths)  # `stacked` masks, and complete stacks hold valid frames alone
    else:
        frames = masked(graph, values, energies.lengths)
    if config.normalisation == "utterance":
        frames = frames.replace(_normalised(graph, frames))
    parts = [frames.values]
    for _ in range(config.deltas.order):
        parts.append(_deltas(graph, frames.replace(parts[-1]), config.deltas.width))
    frames = frames.replace(graph.concat(parts, 2))
    if config.stack == 1:
        return frames
    size = config.filterbank.num_bands * (config.deltas.order + 1)
    return stacked(graph, frames, config.stack, size)


def stacked(graph: Graph, frames: Frames, count: int, size: int) -> Frames:
    """Concatenates every `count` frames of `size` features; an incomplete last stack is dropped."""
    stacks = graph.op("Div", graph.size(frames.values, 1), [count])
    kept = graph.slice(frames.values, 1, 0, graph.op("Mul", stacks, [count]))
    values = graph.op("Reshape", kept, graph.shape(graph.size(frames.values, 0), stacks, count * size))
    lengths = None if frames.lengths is None else graph.op("Div", frames.lengths, [count])
    return masked(graph, values, lengths)


def _normalised(graph: Graph, frames: Frames) -> Value:
    """Every row to mean 0 and variance 1 per feature (`normalise_utterance`)."""
    mean = masked_mean(graph, frames)
    centred = graph.op("Sub", frames.values, mean)
    if frames.mask is not None:
        centred = graph.op("Mul", centred, frames.mask)
    variance = masked_mean(graph, frames.replace(graph.op("Mul", centred, centred)))
    return graph.op("Div", centred, graph.op("Sqrt", graph.op("Add", variance, np.float32(VARIANCE_FLOOR))))


def masked_mean(graph: Graph, frames: Frames) -> Value:
    """Mean over valid frames (B, 1, D); frames that are not valid must be zero."""
    if frames.lengths is None:
        return graph.op("ReduceMean", frames.values, [1])
    count = graph.op("Cast", graph.op("Max", frames.lengths, [1]), to=FLOAT)
    return graph.op("Div", graph.op("ReduceSum", frames.values, [1]), graph.op("Unsqueeze", count, [1, 2]))


def _deltas(graph: Graph, frames: Frames, width: int) -> Value:
    """Slopes of a line through `width` frames around each (`emojax.audio.features.deltas`)."""
    reach = width // 2
    total = graph.size(frames.values, 1)
    last = total if frames.lengths is None else frames.lengths
    last = graph.op("Unsqueeze", graph.op("Max", graph.op("Sub", last, [1]), [0]), [1])
    # Positions beyond either end are those of the first and the last valid frame.
    positions = graph.positions(graph.op("Add", total, [2 * reach]))
    positions = graph.op("Max", graph.op("Sub", positions, [reach]), [0])
    positions = graph.op("Unsqueeze", graph.op("Min", positions, last), [2])
    rows = graph.op("Expand", positions, graph.shape(graph.size(frames.values, 0), 1, 1))
    held = graph.op("GatherND", frames.values, rows, batch_dims=1)

    def shifted(step: int) -> Value:
        return graph.slice(held, 1, reach + step, graph.op("Add", total, [reach + step]))

    slopes = None
    for step in range(1, reach + 1):
        slope = graph.op("Mul", graph.op("Sub", shifted(step), shifted(-step)), np.float32(step))
        slopes = slope if slopes is None else graph.op("Add", slopes, slope)
    scale = 2 * sum(step * step for step in range(1, reach + 1))
    values = graph.op("Mul", slopes, np.float32(1 / scale))
    return values if frames.mask is None else graph.op("Mul", values, frames.mask)
