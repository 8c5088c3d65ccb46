"""Memory traffic of a compiled program by array, operation and line of code."""

import dataclasses
import re

from emojax.planning.hlo import Instruction, Program, array_bytes

_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "iota"}
_FREE |= {"partition-id", "after-all", "opt-barrier"}

_WRAPPER = re.compile(
    r"^(jit|pjit|jvp|transpose|vmap|remat|checkpoint|closed_call|while|body|shmap_body|cond|branch_\d+)\b"
)
"""Parts of an operation's path that name no part of the model."""


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that operations of one kind move between a chip and its main memory.

    Attributes:
      operation: pass (`forward`, `recomputed`, `backward` or `update`), part of the model, and primitive.
      array: type of the largest array that it reads or writes.
      source: `file:line`; empty for what the compiler added, such as copies.
      count: times per step.
      bytes: read and written, summed over the step.
    """

    operation: str
    array: str
    source: str
    count: int
    bytes: int


def traffic(program: Program) -> list[Traffic]:
    """Breaks the memory traffic of one call down, the largest share first.

    An operation moves its operands and its result, as in the cost model of XLA; a fusion is one operation. What it
    reads of an array by a slice counts as the slice. Arrays the compiler keeps on the chip count nothing, and
    computations of loops count as often as they run. Bytes are those of the shapes; tiles of the chip's layout, which
    are padded to whole tiles, can take more.

    Args:
      program: compiled program of one partition.
    """
    runs = program.runs()
    fused = {name for lines in program.computations.values() for line in lines for name in _inlined(line)}
    total: dict[tuple[str, str, str], list[int]] = {}
    for name, instructions in program.computations.items():
        if name in fused or not runs.get(name) or _is_reducer(instructions):
            continue
        types = {instruction.name: instruction.type for instruction in instructions}
        for instruction in instructions:
            if instruction.opcode in _FREE or instruction.opcode.endswith("-done"):
                continue
            moved, largest = _moved(program, instruction, types)
            if moved:
                key = (_operation(instruction), largest, _source(program, instruction))
                entry = total.setdefault(key, [0, 0])
                entry[0] += runs[name]
                entry[1] += runs[name] * moved
    rows = [Traffic(*key, count, size) for key, (count, size) in total.items()]
    return sorted(rows, key=lambda row: (-row.bytes, row.operation))


def _inlined(line: Instruction) -> tuple[str, ...]:
    return line.called if line.opcode in ("fusion", "async-start") else ()


def memory_traffic(program: Program) -> int:
    """Bytes that one call reads from and writes to a chip's main memory: the sum of `traffic`."""
    return sum(row.bytes for row in traffic(program))


def _operation(instruction: Instruction) -> str:
    name = instruction.op_name
    if not name:
        return f"compiler: {instruction.opcode}"
    parts = [part for part in name.split("/") if part and not _WRAPPER.match(part)]
    kept = ".".join(parts[-3:]) or name.rpartition("/")[2]
    return f"{_pass(name)}: {kept}"


def _pass(name: str) -> str:
    if "rematted_computation" in name or "checkpoint/remat" in name:
        return "recomputed"
    if "transpose(" in name:
        return "backward"
    return "forward" if "jvp(" in name else "other"


def _source(program: Program, instruction: Instruction) -> str:
    if frame := re.search(r"stack_frame_id=(\d+)", instruction.text):
        return program.frames.get(int(frame[1]), "")
    found = re.search(r'source_file="([^"]*)" source_line=(\d+)', instruction.text)
    return f"{found[1].rpartition('/')[2]}:{found[2]}" if found else ""


def _moved(program: Program, instruction: Instruction, types: dict[str, str]) -> tuple[int, str]:
    """Bytes of operands and result that pass through memory, and the type of the largest of these arrays."""
    kinds = [types.get(name, "") for name in instruction.operands]
    operands, elements = [array_bytes(kind) for kind in kinds], _elements(instruction.type)
    results = [array_bytes(element) for element in elements]
    if instruction.opcode == "copy-start":  # copy, original, and a counter
        results = results[:1]
    elif instruction.opcode == "slice-start":  # original, slice, and a counter
        operands, results = [min(operands[0], array_bytes(elements[1], True))], [0, results[1]]
    elif instruction.opcode.endswith("-start"):
        results = [max(results, default=0)]
    elif instruction.opcode in ("dynamic-slice", "slice"):
        operands = [min(operands[0], array_bytes(instruction.type, True))]
    elif instruction.opcode == "dynamic-update-slice":
        operands, results = operands[1:2], operands[1:2]
    elif instruction.opcode == "fusion" and instruction.called:
        lines = program.computations.get(instruction.called[0], [])
        operands = [min(size, _read(program, lines, number, size)) for number, size in enumerate(operands)]
        written = _written(program, lines, next((line for line in lines if line.root), None))
        if len(written) == len(results):
            results = [min(pair) for pair in zip(results, written, strict=True)]
    sizes = [*zip(operands, kinds, strict=False), *zip(results, elements, strict=False)]
    shown = max(sizes, default=(0, ""))[1]
    return sum(operands) + sum(results), re.sub(r"\{.*", "", shown)


def _read(program: Program, lines: list[Instruction], number: int, size: int) -> int:
    """Bytes that a fusion reads of its parameter `number` of `size` bytes: of an array that is sliced, the slices."""
    parameter = f" parameter({number})"
    name = next((line.name for line in lines if f" {line.text}".find(parameter) >= 0), "")
    return _read_of(program, lines, name, size) if name else size


def _read_of(program: Program, lines: list[Instruction], name: str, size: int) -> int:
    total = 0
    for user in (line for line in lines if name in line.operands):
        if user.opcode in ("dynamic-slice", "slice"):
            total += array_bytes(user.type, True)
        elif user.opcode == "bitcast":
            total += _read_of(program, lines, user.name, size)
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            total += 0  # written in place
        elif user.opcode == "fusion" and user.called:
            inner = program.computations.get(user.called[0], [])
            positions = [number for number, operand in enumerate(user.operands) if operand == name]
            total += sum(_read(program, inner, number, size) for number in positions)
        else:
            return size
    return min(total, size)


def _written(program: Program, lines: list[Instruction], result: Instruction | None) -> list[int]:
    """Bytes that a fusion writes of each of its results: of an array updated in place, the update."""
    if result is None:
        return []
    by_name = {line.name: line for line in lines}
    if result.opcode == "tuple":
        return [size for name in result.operands for size in _written(program, lines, by_name.get(name))]
    if result.opcode == "bitcast" and result.operands[0] in by_name:
        return _written(program, lines, by_name[result.operands[0]])
    if result.opcode == "dynamic-update-slice" and result.operands[1] in by_name:
        return [array_bytes(by_name[result.operands[1]].type, True)]
    if result.opcode == "fusion" and result.called:
        inner = program.computations.get(result.called[0], [])
        return _written(program, inner, next((line for line in inner if line.root), None))
    return [array_bytes(element, True) for element in _elements(result.type)]


def _elements(type_text: str) -> list[str]:
    """Array types of a tuple type, or the array type itself."""
    return re.findall(r"[a-z]+\d*\w*\[[\d,]*\](?:\{[^}]*\})?", type_text)


def _is_reducer(lines: list[Instruction]) -> bool:
    return all(re.match(r"\w+\[\]", line.type) for line in lines)
