"""Loops of a compiled program: sequential iterations, and a bound of the time that they take however small their work.

A loop's iterations wait for each other, so that a recurrent network of 1,200 frames takes 1,200 times the latency of
its operations, which neither FLOP/s nor bandwidth shorten.
"""

import dataclasses
import re

from emojax.planning.hlo import Instruction, Program


@dataclasses.dataclass(frozen=True)
class Loop:
    """A loop that runs at least once per call.

    Attributes:
      name: path of the loop in the traced function.
      iterations: per call of the program, all runs of an inner loop together; None if the program does not say.
      cycles: of one iteration, the sum over its operations of the compiler's estimate, each at most the estimate for an
        operation on one element (`empty_cycles`); None if the program has no estimates.
      estimated: of one iteration, the sum of the compiler's estimates; None likewise.
    """

    name: str
    iterations: int | None
    cycles: int | None
    estimated: int | None

    @property
    def waiting_cycles(self) -> int | None:
        """Cycles that iterations wait, 0 for a loop whose iterations mostly compute; None if unknown.

        An iteration mostly waits if latency is more than half of the compiler's estimate for it, as in recurrent
        networks; a transformer layer in a loop does not.
        """
        if self.iterations is None or self.cycles is None or self.estimated is None:
            return None
        return self.iterations * self.cycles if 2 * self.cycles > self.estimated else 0


def find_loops(program: Program, empty_cycles: int | None) -> list[Loop]:
    """Finds the loops of a program, the one with most iterations first.

    Args:
      program: compiled program.
      empty_cycles: what the compiler estimates for an operation on one element (`Chip.empty_cycles`); None if unknown.
    """
    runs = program.runs()
    found = []
    for name, instructions in program.computations.items():
        for loop in instructions:
            if loop.opcode != "while" or not runs.get(name):
                continue
            body = re.search(r"body=%([\w.\-]+)", loop.text)
            lines = program.computations.get(body[1], []) if body else []
            trips = program.trips(loop)
            iterations = None if trips is None else trips * runs[name]
            estimates = [cycles for line in lines if (cycles := estimated_cycles(line)) is not None]
            known = bool(estimates) and empty_cycles is not None
            cycles = sum(min(each, empty_cycles) for each in estimates) if known and empty_cycles else None
            found.append(Loop(_path(loop), iterations, cycles, sum(estimates) if known else None))
    return sorted(found, key=lambda loop: (loop.iterations is not None, -(loop.iterations or 0), loop.name))


def compiler_cycles(program: Program) -> int | None:
    """Sum of the compiler's estimates over all operations of one call; None if the program has none.

    Custom kernels have no estimate, nor have transfers that run beside computation.
    """
    runs, total, any_known = program.runs(), 0, False
    for name, instructions in program.computations.items():
        for instruction in instructions:
            cycles = estimated_cycles(instruction)
            if cycles is not None and runs.get(name):
                total, any_known = total + runs[name] * cycles, True
    return total if any_known else None


def estimated_cycles(instruction: Instruction) -> int | None:
    """What libtpu's cost model estimates for an operation; None without an estimate."""
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.text)
    return int(found[1]) if found else None


def _path(loop: Instruction) -> str:
    """Last parts of the loop's scope in the traced function."""
    parts = [part for part in loop.op_name.split("/") if part not in ("while", "body", "closed_call", "")]
    direction = "backward " if "transpose(" in loop.op_name else ""
    return direction + (".".join(parts[-2:]) or loop.name)
