"""Plan of one training step on a TPU slice: compiled for chips that need not exist, its cost read off the program."""

import dataclasses
import re
import time
from typing import Any

import jax

from emojax.config import ExperimentConfig
from emojax.errors import EmojaxError, reason
from emojax.models import count_parameters
from emojax.parallel import make_mesh
from emojax.planning.abstract import AbstractStep, abstract_run
from emojax.planning.chips import Chip, count_flops
from emojax.planning.hlo import Collective, collectives, parse_program
from emojax.planning.loops import Loop, compiler_cycles, find_loops
from emojax.planning.traffic import traffic

_ROWS = 100
"""Largest shares of the memory traffic that `plan.json` holds."""

_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

_TOO_MUCH = (r"Used ([\d.]+)([BKMGT]?) of [\d.]+[BKMGT]? hbm", r"\(([\d.]+)([BKMGT]?)\) exceeds available HBM")
"""Error messages of the compiler for a step that exceeds the memory, with the least that it needs."""


def utterance_seconds(config: ExperimentConfig) -> float:
    """Length that a plan pads every utterance to (s): the longest of the config."""
    return max(config.data.bucket_seconds, default=config.data.max_seconds)


def plan_step(config: ExperimentConfig, chip: Chip, devices: list[Any]) -> dict[str, Any]:
    """Compiles the training step of a config for some devices and estimates memory, traffic and time.

    Args:
      config: config of the run.
      chip: kind of the devices.
      devices: devices of a topology.

    Returns:
      The plan, in values of JSON.

    Raises:
      EmojaxError: the config cannot run on these devices, or cannot be compiled.
    """
    mesh = make_mesh(config.mesh, devices)
    seconds = utterance_seconds(config)
    run = abstract_run(config, mesh, seconds)
    flops = count_flops(run.jitted.trace(*run.arguments).jaxpr)
    useful = _useful_flops(config, mesh, seconds)
    start = time.monotonic()
    text, memory = _compiled(run)
    shape = {axis: int(size) for axis, size in mesh.shape.items()}
    plan: dict[str, Any] = {
        "chips": len(devices),
        "mesh": shape,
        "batch_size": config.data.batch_size,
        "utterance_seconds": seconds,
        "trained_parameters": count_parameters(run.state.params),
        "frozen_parameters": count_parameters((run.state.frozen, run.state.teacher)),
        "hbm_bytes_per_chip": chip.hbm_bytes,
        **memory,
        "fits": memory["peak_bytes_per_chip"] <= chip.hbm_bytes and text is not None,
        "flops_per_step": flops,
        "useful_flops_per_step": useful,
        "compile_seconds": round(time.monotonic() - start, 1),
        "collectives": [],
    }
    if text is not None:
        program = parse_program(text)
        exchanged = collectives(program, shape)
        rows, loops = traffic(program), find_loops(program, chip.empty_cycles)
        plan["collectives"] = [dataclasses.asdict(each) | {"wire_bytes": round(each.wire_bytes)} for each in exchanged]
        plan["memory_traffic_bytes_per_chip"] = sum(row.bytes for row in rows)
        plan["memory_traffic"] = [dataclasses.asdict(row) for row in rows[:_ROWS]]
        plan["loops"] = [dataclasses.asdict(loop) for loop in loops]
        plan["compiler_cycles"] = compiler_cycles(program)
        plan["predicted"] = predict(plan, chip, exchanged, loops)
    return plan


def predict(plan: dict[str, Any], chip: Chip, exchanged: list[Collective], loops: list[Loop]) -> dict[str, Any]:
    """Predicts the time of a step: the longest of three bounds, and in addition that of loops that mostly wait.

    Args:
      plan: with FLOPs, bytes and batch size.
      chip: kind of chip.
      exchanged: collectives of a step.
      loops: loops of a step.

    Returns:
      `seconds` of operations, memory, interconnect, sequential iterations and the step; what it is bound by; and MFU
      and examples/s, None where the time of a loop or between slices is unknown. The time of the step is then a lower
      bound.
    """
    chips = plan["chips"]
    bounds: dict[str, float | None] = {
        "compute": plan["flops_per_step"] / chips / chip.flops,
        "memory": plan["memory_traffic_bytes_per_chip"] / chip.hbm_bandwidth,
        "interconnect": None,
    }
    if not any("dcn" in each.axes for each in exchanged):  # the network between slices has no published figure
        # A mesh axis is assumed to lie along one dimension of the torus.
        rate = chip.link_bandwidth / chip.torus_dimensions
        bounds["interconnect"] = sum(each.wire_bytes for each in exchanged) / rate
    waiting = [loop.waiting_cycles for loop in loops]
    sequential: float | None = None
    if not any(each is None or (each and chip.clock is None) for each in waiting):
        sequential = sum(each or 0 for each in waiting) / (chip.clock or 1.0)
    seconds = {**bounds, "sequential": sequential}
    step = max(value or 0.0 for value in bounds.values()) + (sequential or 0.0)
    estimated = plan["compiler_cycles"]
    known = None not in seconds.values()
    mfu = plan["useful_flops_per_step"] / chips / chip.flops / step
    return {
        "seconds": {**seconds, "step": step},
        "bound_by": max(seconds, key=lambda name: seconds[name] or 0.0) if known else "unknown",
        "mfu": mfu if known else None,
        "mfu_at_most": mfu,
        "examples_per_second": plan["batch_size"] / step if known else None,
        "compiler_seconds": estimated / chip.clock if estimated and chip.clock else None,
    }


def _useful_flops(config: ExperimentConfig, mesh: Any, seconds: float) -> int:
    """FLOPs of the step without recomputation."""
    modalities = {modality: getattr(config.model, modality) for modality in config.model.encoder_modalities}
    plain = {name: dataclasses.replace(modality, remat=False) for name, modality in modalities.items()}
    once = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **plain),
        training=dataclasses.replace(config.training, micro_batches=1),
    )
    run = abstract_run(once, mesh, seconds)
    return count_flops(run.jitted.trace(*run.arguments).jaxpr, useful=True)


def _compiled(run: AbstractStep) -> tuple[str | None, dict[str, int]]:
    """Text of the compiled step and its memory per chip; no text where it does not fit."""
    lowered = run.jitted.trace(*run.arguments).lower()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        needed = next(filter(None, (re.search(words, str(error)) for words in _TOO_MUCH)), None)
        if needed is None:
            raise EmojaxError(f"the step cannot be compiled for these chips ({reason(error)})") from error
        return None, {"peak_bytes_per_chip": round(float(needed[1]) * _UNITS[needed[2] or "B"])}
    found = compiled.memory_analysis()
    arguments, temporaries = found.argument_size_in_bytes, found.temp_size_in_bytes
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    code = found.generated_code_size_in_bytes
    return compiled.as_text(), {
        "argument_bytes_per_chip": arguments,
        "temporary_bytes_per_chip": temporaries,
        "result_bytes_per_chip": results,
        "program_bytes_per_chip": code,
        "peak_bytes_per_chip": arguments + temporaries + results + code,
    }
