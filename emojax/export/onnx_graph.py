"""Builder of ONNX graphs: nodes, constants, and parameters in float32 or as 8-bit integers with scales."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emojax.errors import ConfigError
from emojax.workdir.quantised import quantise

OPSET = 20
"""Version of the ONNX operators: the first with GELU; runtimes have it since January 2024 (ONNX Runtime 1.17)."""

FLOAT, INT32, BOOL = 1, 6, 9
"""Codes of types, for the operator `Cast`."""

END = int(np.iinfo(np.int64).max)
"""End of a slice: that of the axis."""

_IR_VERSION = 9
"""File format of that version, which older runtimes read too."""

Value = str
"""Name of a tensor of the graph."""

Operand = Value | np.ndarray | np.generic | float | Sequence[int] | None
"""Input of a node: a tensor, a constant (Python integers become int64, floating point float32), or None: omitted."""


def import_onnx() -> Any:
    """Imports the package `onnx`.

    Raises:
      ConfigError: it is not installed; the message names the extra.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigError("--mode=export needs onnx, which is not installed (pip install onnx)") from error
    return onnx


class Graph:
    """A graph under construction; nodes are in the order in which they are added.

    Attributes:
      quantised: whether parameters that are matrices are stored as 8-bit integers with one scale per output channel, as
        in 8-bit workdirs (`emojax.workdir.quantised`), and converted to float32 where they are used.
    """

    def __init__(self, quantised: bool = False):
        """Starts an empty graph."""
        self._onnx = import_onnx()
        self.quantised = quantised
        self._nodes: list[Any] = []
        self._tensors: dict[tuple[str, tuple[int, ...], bytes], Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._count = 0

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> Value:
        """Declares an input; axes are numbers, or names of free axes."""
        self._inputs.append(self._information(name, dtype, shape))
        return name

    def output(self, name: str, value: Value, dtype: Any, shape: Sequence[int | str]) -> None:
        """Declares a tensor as output, by another name."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [value], [name]))
        self._outputs.append(self._information(name, dtype, shape))

    def op(self, kind: str, *operands: Operand, **attributes: Any) -> Value:
        """Adds a node with one output, and returns that."""
        (output,) = self.ops(kind, 1, *operands, **attributes)
        return output

    def ops(self, kind: str, outputs: int, *operands: Operand, **attributes: Any) -> list[Value]:
        """Adds a node with several outputs, and returns them."""
        names = [self._new_name(kind) for _ in range(outputs)]
        inputs = [self._operand(operand) for operand in operands]
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, names, **attributes))
        return names

    def by_row(self, body: Callable[[Value], Value], values: Value) -> Value:
        """Applies nodes to the rows of a tensor one after the other (`Scan`), which keeps what they compute small.

        Args:
          body: adds the nodes for one row, float32 (1, ...), and returns their output, float32 (1, ...).
          values: float32 (B, ...).

        Returns:
          The outputs (B, ...), which must have equal shapes.
        """
        helper, row = self._onnx.helper, self._new_name("row")
        outside, self._nodes = self._nodes, []
        result = self.op("Squeeze", body(self.op("Unsqueeze", row, [0])), [0])
        inside, self._nodes = self._nodes, outside
        ends = [[helper.make_tensor_value_info(end, FLOAT, None)] for end in (row, result)]
        return self.op("Scan", values, body=helper.make_graph(inside, "row", *ends), num_scan_inputs=1)

    def constant(self, values: Any) -> Value:
        """Adds a constant, once for equal values."""
        array = np.ascontiguousarray(values)
        key = (str(array.dtype), np.shape(values), array.tobytes())
        if key not in self._tensors:
            tensor = self._onnx.numpy_helper.from_array(array.reshape(np.shape(values)), self._new_name("constant"))
            self._tensors[key] = tensor
        return self._tensors[key].name

    def parameter(
        self, values: Any, arrange: Callable[[np.ndarray], np.ndarray] = lambda same: same, axis: int = -1
    ) -> Value:
        """Adds a parameter of the model.

        Args:
          values: array as the model has it; the last axis is that of output channels.
          arrange: changes its layout to that of the operator.
          axis: axis of output channels in that layout.
        """
        array = np.asarray(values, np.float32)
        if not self.quantised or array.ndim < 2:
            return self.constant(np.ascontiguousarray(arrange(array)))
        integers, scale = quantise(array)
        # Scales take part in what `arrange` does to channels; they are equal along all other axes.
        scales = arrange(np.broadcast_to(scale, array.shape))
        axis = axis % scales.ndim
        scales = scales[tuple(slice(None) if each == axis else slice(0, 1) for each in range(scales.ndim))]
        # Not DequantizeLinear: ONNX Runtime would fuse it with the product and round the activations to 8 bits too.
        return self.op("Mul", self.op("Cast", self.constant(arrange(integers)), to=FLOAT), scales)

    def model(self, name: str, metadata: Mapping[str, str]) -> Any:
        """Completes the graph: an `onnx.ModelProto`, checked.

        Args:
          name: name of the graph.
          metadata: texts stored in the file.
        """
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, list(self._tensors.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="emojax")
        model.ir_version = _IR_VERSION
        helper.set_model_props(model, dict(metadata))
        self._onnx.checker.check_model(model)
        return model

    # What several modules need of the operators, with shorter arguments.

    def size(self, value: Value, axis: int) -> Value:
        """Length of an axis, int64 of shape (1,)."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def slice(self, value: Value, axis: int, start: Operand = 0, end: Operand = END, step: int = 1) -> Value:
        """Slices one axis; start and end are numbers or tensors of shape (1,)."""
        start, end = ([bound] if isinstance(bound, int) else bound for bound in (start, end))
        return self.op("Slice", value, start, end, [axis], [step])

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Concatenates; one tensor stays as it is."""
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis)

    def shape(self, *axes: int | Value) -> Value:
        """Shape from numbers and tensors of shape (1,)."""
        return self.concat([self.constant(np.array([axis])) if isinstance(axis, int) else axis for axis in axes], 0)

    def positions(self, length: Value) -> Value:
        """0 to length - 1, int64 of shape (T,); `length` is of shape (1,)."""
        scalar = self.op("Squeeze", length, [0])
        return self.op("Range", np.int64(0), scalar, np.int64(1))

    def _operand(self, operand: Operand) -> Value:
        if operand is None:
            return ""
        if isinstance(operand, str):
            return operand
        array = np.asarray(operand)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        return self.constant(array)

    def _information(self, name: str, dtype: Any, shape: Sequence[int | str]) -> Any:
        helper = self._onnx.helper
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    def _new_name(self, kind: str) -> Value:
        self._count += 1
        return f"{kind.lower()}_{self._count}"
