"""Parses the text of a compiled program: computations, sources of operations, collectives between chips."""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

from emojax.errors import EmojaxError

_BYTES = {"pred": 1, "s4": 1, "u4": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "c64": 8, "c128": 16}
_ARRAY = re.compile(r"([a-z]+\d*(?:e\dm\d\w*)?)\[([\d,]*)\](\{[^}]*\})?")
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = (.*)$")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|branch_computations|true_computation|false_computation)=\{?((?:%[\w.\-]+(?:, )?)+)"
)
_PACKAGE = "/emojax/"
_COLLECTIVE = re.compile(r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: `%name = type opcode(operands), rest`."""

    name: str
    root: bool
    type: str
    opcode: str
    operands: tuple[str, ...]
    text: str

    @property
    def op_name(self) -> str:
        """Path of scopes and primitive in the traced function; empty for what the compiler added."""
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found[1] if found else ""

    @property
    def called(self) -> tuple[str, ...]:
        """Computations it runs."""
        return tuple(re.findall(r"%([\w.\-]+)", " ".join(_CALLED.findall(self.text))))


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
      computations: by name, each a list of instructions.
      entry: name of the first computation.
      frames: `stack_frame_id` -> `file:line` of the innermost frame inside this package, or else of the innermost one.
    """

    computations: dict[str, list[Instruction]]
    entry: str
    frames: dict[int, str] = dataclasses.field(default_factory=dict)

    def runs(self) -> dict[str, int]:
        """How often each computation runs in one call of the program; a loop without a known bound counts as once."""
        counts: collections.Counter[str] = collections.Counter()

        def visit(name: str, times: int) -> None:
            counts[name] += times
            for instruction in self.computations.get(name, ()):
                factor = (self.trips(instruction) or 1) if instruction.opcode == "while" else 1
                for called in instruction.called:
                    visit(called, times * factor)

        visit(self.entry, 1)
        return dict(counts)

    def trips(self, loop: Instruction) -> int | None:
        """Iterations of a loop that counts from 0 to the bound of its condition; None if there is no such bound."""
        if known := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.text):
            return int(known[1])
        condition = re.search(r"condition=%([\w.\-]+)", loop.text)
        lines = self.computations.get(condition[1], []) if condition else []
        bounds = [re.search(r"^s32\[\]\S* constant\((\d+)\)", line.text) for line in lines]
        found = [int(bound[1]) for bound in bounds if bound]
        return max(found) if found else None


@dataclasses.dataclass(frozen=True)
class Collective:
    """Exchanges of one kind over the same mesh axes.

    Attributes:
      kind: `all-reduce`, `all-gather`, `reduce-scatter`, `all-to-all` or `collective-permute`.
      axes: mesh axes, joined by `+`; `?` for a group of chips that is not a mesh axis.
      group_size: chips that exchange with each other.
      count: times per step.
      bytes: part of the result or operand on each chip, whichever is larger, summed over the step.
    """

    kind: str
    axes: str
    group_size: int
    count: int
    bytes: int

    @property
    def wire_bytes(self) -> float:
        """Bytes that leave each chip in a ring over the group."""
        passes = 2 if self.kind == "all-reduce" else 1
        share = 1.0 if self.kind == "collective-permute" else (self.group_size - 1) / self.group_size
        return passes * share * self.bytes


def parse_program(text: str) -> Program:
    """Parses `compiled.as_text()`.

    Raises:
      EmojaxError: the text has no entry computation, as in a format of another version of XLA.
    """
    computations: dict[str, list[Instruction]] = {}
    entry = name = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name = head[1]
            computations[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif (found := _LINE.match(line)) and name:
            computations[name].append(_instruction(bool(found[1]), found[2], found[3]))
        elif line.startswith("}"):
            name = ""
    if not computations.get(entry):
        raise EmojaxError("the text of the compiled program cannot be parsed: no instruction of an entry computation")
    return Program(computations, entry, _frames(text))


def _frames(text: str) -> dict[int, str]:
    """Source of each stack frame, from the tables in front of the computations."""

    def table(name: str) -> dict[int, str]:
        found = re.search(rf"^{name}\n((?:\d+ .*\n)*)", text, re.MULTILINE)
        rows = (line.split(" ", 1) for line in found[1].splitlines()) if found else ()
        return {int(number): value for number, value in rows}

    files, locations, frames = table("FileNames"), table("FileLocations"), table("StackFrames")

    def source(frame: int) -> tuple[str, int]:
        location, parent = map(int, re.findall(r"=(\d+)", frames[frame])[:2])
        file, _, line = map(int, re.findall(r"=(\d+)", locations[location])[:3])
        return f"{files[file].strip(chr(34))}:{line}", parent - 1  # parents are numbered from 1, 0 being none

    found = {}
    for frame in frames:
        inner, outer = source(frame)
        place = inner
        while _PACKAGE not in place and outer in frames:
            place, outer = source(outer)
        place = place if _PACKAGE in place else inner
        found[frame] = place[place.rfind(_PACKAGE) + 1 :] if _PACKAGE in place else place.rpartition("/")[2]
    return found


def collectives(program: Program, mesh_shape: dict[str, int]) -> list[Collective]:
    """What chips exchange in one step, by kind and mesh axes.

    Args:
      program: compiled program of all partitions.
      mesh_shape: axis -> size, in the order the mesh's devices are numbered.
    """
    runs = program.runs()
    seen: dict[str, tuple[str, str, int, int, int]] = {}
    for name, instructions in program.computations.items():
        scattered = "all-reduce-scatter" in name  # the form in which a reduce-scatter is compiled for TPU
        for instruction in instructions:
            match = _COLLECTIVE.fullmatch(instruction.opcode)
            if not match or not runs.get(name):
                continue
            kind = "reduce-scatter" if scattered else match[1]
            axes, group = _axes(instruction.text, mesh_shape)
            channel = re.search(r"channel_id=(\d+)", instruction.text)
            # An asynchronous exchange appears at its start, at its end and in what runs meanwhile: one channel.
            key = channel[1] if channel else f"{name}/{instruction.name}"
            if key not in seen or runs[name] > seen[key][3]:
                seen[key] = (kind, axes, group, runs[name], _exchanged_bytes(instruction, instructions))
    total: dict[tuple[str, str, int], list[int]] = {}
    for kind, axes, group, times, size in seen.values():
        entry = total.setdefault((kind, axes, group), [0, 0])
        entry[0] += times
        entry[1] += times * size
    return [Collective(*key, count, size) for key, (count, size) in sorted(total.items()) if key[2] > 1]


def _exchanged_bytes(instruction: Instruction, instructions: Sequence[Instruction]) -> int:
    """Bytes of all operands or of all results of a collective, whichever are more."""
    types = {other.name: other.type for other in instructions}
    operands = sum(array_bytes(types.get(name, ""), True) for name in instruction.operands)
    results = array_bytes(instruction.type, True)
    if instruction.opcode in ("all-gather-start", "collective-permute-start"):  # their type also holds the operands
        results -= operands
    return max(operands, results)


_STATISTICS_BYTES = 4096
"""Bound on what a step exchanges besides gradients and parameters: sums of the loss, counts, norms of gradients."""

_LEAST_REDUCED = 0.9
"""Share of the gradients that is reduced at least: equal ones, of the GRU's two biases of a gate, are reduced once."""


def unexpected_collectives(found: Sequence[Collective], axis: str, parameter_bytes: int) -> list[str]:
    """Checks the collectives of a training step whose devices lie along one mesh axis.

    Along `data` every gradient is reduced once. Along `fsdp` parameters are also gathered, for the forward and the
    backward pass at most, and in small batches rows of the embedding's gradient may be exchanged for features
    (all-to-all), so that each device computes its part of a kernel's gradient.

    Args:
      found: collectives of the compiled step.
      axis: `data` or `fsdp`.
      parameter_bytes: bytes of the trained parameters, and of their gradients.

    Returns:
      A message for each unexpected collective; none if all are expected.
    """
    reduced = parameter_bytes + _STATISTICS_BYTES
    limits = {"all-reduce": reduced}
    if axis == "fsdp":
        limits |= {
            "reduce-scatter": reduced,
            "all-gather": 2 * parameter_bytes + _STATISTICS_BYTES,
            "all-to-all": _STATISTICS_BYTES,
        }
    messages = [f"{each.kind} over {each.axes}, expected only {axis}" for each in found if each.axes != axis]
    moved: dict[str, int] = {}
    for each in found:
        moved[each.kind] = moved.get(each.kind, 0) + each.bytes
    for kind, size in moved.items():
        if kind not in limits:
            messages.append(f"{kind} of {size} bytes, expected only {', '.join(limits)}")
        elif size > limits[kind]:
            messages.append(f"{kind} of {size} bytes, expected at most {limits[kind]}")
    if moved.get("all-reduce", 0) + moved.get("reduce-scatter", 0) < _LEAST_REDUCED * parameter_bytes:
        messages.append(f"gradients of {parameter_bytes} bytes are not all reduced")
    return messages


def array_bytes(type_text: str, everywhere: bool = False) -> int:
    """Bytes of an array or tuple type; of those in main memory alone, unless `everywhere`."""
    total = 0
    for dtype, shape, layout in _ARRAY.findall(type_text):
        if re.search(r"S\([1-4]\)", layout) and not everywhere:
            continue
        lengths = [int(length) for length in shape.split(",") if length]
        bits = re.search(r"\d+", dtype)
        size = _BYTES.get(dtype) or (int(bits[0]) // 8 if bits else 0)
        total += size * math.prod(lengths)
    return total


def _instruction(root: bool, name: str, rest: str) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, call = rest[:end], rest[end:].lstrip()
    opcode = call[: call.index("(")]
    operands = call[len(opcode) + 1 : _closing(call, len(opcode))]
    return Instruction(name, root, kind, opcode, tuple(re.findall(r"%([\w.\-]+)", operands)), rest)


def _closing(text: str, start: int) -> int:
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place
    return len(text)


def _axes(text: str, mesh_shape: dict[str, int]) -> tuple[str, int]:
    """Mesh axes an exchange runs over, and the number of chips in each group."""
    sizes = list(mesh_shape.values())
    numbers = np.arange(int(np.prod(sizes))).reshape(sizes)
    groups = _groups(text, numbers.size)
    if groups is None:
        return "?", 2  # a permutation between pairs
    wanted = {frozenset(group) for group in groups.tolist()}
    names = list(mesh_shape)
    for mask in range(1, 2 ** len(names)):
        chosen = [axis for axis in range(len(names)) if mask >> axis & 1 and sizes[axis] > 1]
        if len(chosen) != bin(mask).count("1"):
            continue
        last = np.moveaxis(numbers, chosen, range(-len(chosen), 0))
        rows = last.reshape(-1, int(np.prod([sizes[axis] for axis in chosen])))
        if {frozenset(row) for row in rows.tolist()} == wanted:
            return "+".join(names[axis] for axis in chosen), rows.shape[1]
    return "?", groups.shape[1]


def _groups(text: str, devices: int) -> np.ndarray | None:
    """`replica_groups` in its three spellings: listed, as a reshaped count, or as axes of a mesh."""
    if found := re.search(r"replica_groups=\{(\{[\d,{} ]*\})\}", text):
        return np.array(
            [[int(number) for number in group.split(",")] for group in re.findall(r"\{([\d, ]+)\}", found[1])]
        )
    if found := re.search(r"replica_groups=\[([\d,]+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", text):
        return _count(found[2]).reshape(_ints(found[1]))
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((\[[^)]*\)?)\))? \{([^}]*)\}", text):
        axes = re.findall(r"'([^']+)'=(\d+)", found[1])
        ids = _count(found[2]) if found[2] else np.arange(int(np.prod([int(size) for _, size in axes])))
        shaped = ids.reshape([int(size) for _, size in axes])
        chosen = [[name for name, _ in axes].index(name) for name in re.findall(r"'([^']+)'", found[3])]
        last = np.moveaxis(shaped, chosen, range(-len(chosen), 0))
        return last.reshape(-1, int(np.prod([shaped.shape[axis] for axis in chosen])))
    if "replica_groups={}" in text:
        return np.arange(devices)[None]
    return None


def _count(text: str) -> np.ndarray:
    """`[4,2]T(1,0)`: the numbers from 0, reshaped and transposed."""
    shape, _, order = text.partition("T")
    numbers = np.arange(int(np.prod(_ints(shape)))).reshape(_ints(shape))
    return numbers.transpose(_ints(order)) if order else numbers


def _ints(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
