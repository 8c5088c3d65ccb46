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
    operands, result = [array_bytes(kind) for kind in kinds], array_bytes(instruction.type)
    if instruction.opcode == "copy-start":  # a tuple of copy, original and a counter
        result = array_bytes(_elements(instruction.type)[0])
    elif instruction.opcode.endswith("-start"):
        result = max(map(array_bytes, _elements(instruction.type)), default=0)
    elif instruction.opcode == "dynamic-slice":
        operands = [result]
    elif instruction.opcode == "dynamic-update-slice":
        operands, result = operands[1:2], operands[1] if len(operands) > 1 else result
    elif instruction.opcode == "fusion" and instruction.called:
        lines = program.computations.get(instruction.called[0], [])
        operands, result = _fusion(lines, operands, result)
    sizes = dict(zip(kinds, operands, strict=False))
    elements = _elements(instruction.type)
    if result and elements:
        largest = max(elements, key=array_bytes)
        sizes[largest] = max(sizes.get(largest, 0), min(result, array_bytes(largest)))
    shown = max(sizes, key=lambda kind: sizes[kind], default="")
    return sum(operands) + result, re.sub(r"\{.*", "", shown)


def _elements(type_text: str) -> list[str]:
    """Array types of a tuple type, or the array type itself."""
    return re.findall(r"[a-z]+\d*\w*\[[\d,]*\](?:\{[^}]*\})?", type_text)


def _fusion(lines: list[Instruction], operands: list[int], result: int) -> tuple[list[int], int]:
    numbers = {line.name: int(found[1]) for line in lines if (found := re.search(r" parameter\((\d+)\)", line.text))}
    types = {line.name: line.type for line in lines}
    for name, number in numbers.items():
        users = [line for line in lines if name in line.operands]
        if not users or number >= len(operands):
            continue
        if all(line.opcode == "dynamic-slice" for line in users):
            operands[number] = min(operands[number], sum(array_bytes(line.type, True) for line in users))
        elif all(line.opcode == "dynamic-update-slice" and line.operands[0] == name for line in users):
            # Written in place: neither is the rest read, nor is it written.
            update = sum(array_bytes(types.get(line.operands[1], ""), True) for line in users)
            result = min(result, max(result - operands[number], 0) + update)
            operands[number] = 0
    return operands, result


def _is_reducer(lines: list[Instruction]) -> bool:
    return all(re.match(r"\w+\[\]", line.type) for line in lines)
