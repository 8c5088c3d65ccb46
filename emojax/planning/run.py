"""Plans a run on a TPU slice: compiles its training step for chips that need not exist, and estimates its cost."""

import dataclasses
import math
import re
import time
from pathlib import Path
from typing import Any

import jax

from emojax.config import ExperimentConfig
from emojax.errors import EmojaxError, reason
from emojax.models import count_parameters
from emojax.parallel import make_mesh
from emojax.planning.abstract import AbstractStep, abstract_run
from emojax.planning.chips import Chip, count_flops, find_chip, topology_devices
from emojax.planning.hlo import Collective, collectives, parse_program
from emojax.planning.traffic import memory_traffic
from emojax.workdir import (
    check_same_config,
    holds,
    write_config,
    write_corpus_metadata,
    write_json,
)

PLAN = "plan.json"
"""The plan of a workdir."""

MSP_PODCAST = {"release": "1.11", "utterances": 84_030, "mean_seconds": 5.65}
"""Its training partition (README of the release; 237 h 56 min in 151,654 turns altogether)."""

_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

_TOO_MUCH = (r"Used ([\d.]+)([BKMGT]?) of [\d.]+[BKMGT]? hbm", r"\(([\d.]+)([BKMGT]?)\) exceeds available HBM")
"""Error messages of the compiler for a step that exceeds the memory, with the least that it needs."""


@holds("workdir")
def plan_workdir(config: ExperimentConfig, workdir: Path, topology: str) -> dict[str, Any]:
    """Compiles the training step of a config for a TPU slice and writes `plan.json`.

    Times are predicted as a roofline: the longest of computing at the chip's peak FLOP/s, of memory traffic at its peak
    bandwidth, and of collectives at the bandwidth of its links.

    Args:
      config: config of the run; see `emojax.planning.abstract.abstract_run` for what need not be on this machine.
      workdir: folder of the plan; a further plan can name it as its teacher.
      topology: e.g. `v5e:16x16`.

    Returns:
      The content of `plan.json`.

    Raises:
      EmojaxError: one line saying what is wrong with topology, config or encoder.
    """
    chip = find_chip(topology)
    jax.config.update("jax_platforms", "cpu")  # nothing runs; a TPU of this machine is left to others
    check_same_config(config, workdir)
    devices = topology_devices(topology)
    mesh = make_mesh(config.mesh, devices)
    seconds = max(config.data.bucket_seconds) if config.data.bucket_seconds else config.data.max_seconds
    run = abstract_run(config, mesh, seconds)
    write_config(workdir, config)
    write_corpus_metadata(workdir, run.metadata)
    flops = count_flops(run.jitted.trace(*run.arguments).jaxpr)
    useful = _useful_flops(config, mesh, seconds, flops)
    print(f"compiling the step for {len(devices)} chips", flush=True)
    start = time.monotonic()
    text, memory = _compiled(run)
    compile_seconds = time.monotonic() - start
    shape = {axis: int(size) for axis, size in mesh.shape.items()}
    plan: dict[str, Any] = {
        "topology": topology,
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
        "compile_seconds": round(compile_seconds, 1),
    }
    exchanged: list[Collective] = []
    if text is not None:
        program = parse_program(text)
        exchanged = collectives(program, shape)
        plan["collectives"] = [dataclasses.asdict(each) | {"wire_bytes": round(each.wire_bytes)} for each in exchanged]
        plan["memory_traffic_bytes_per_chip"] = memory_traffic(program)
        plan["predicted"] = _times(plan, chip, exchanged)
    else:
        plan["collectives"] = []
    plan["suggestions"] = _suggestions(config, plan)
    write_json(workdir / PLAN, plan)
    print(_table(plan), flush=True)
    return plan


def _useful_flops(config: ExperimentConfig, mesh: Any, seconds: float, flops: int) -> int:
    """FLOPs of the step without recomputation."""
    modalities = {modality: getattr(config.model, modality) for modality in config.model.encoder_modalities}
    if config.training.micro_batches == 1 and not any(modality.remat for modality in modalities.values()):
        return flops
    plain = {name: dataclasses.replace(modality, remat=False) for name, modality in modalities.items()}
    once = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **plain),
        training=dataclasses.replace(config.training, micro_batches=1),
    )
    run = abstract_run(once, mesh, seconds)
    return count_flops(run.jitted.trace(*run.arguments).jaxpr)


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


def _times(plan: dict[str, Any], chip: Chip, exchanged: list[Collective]) -> dict[str, Any]:
    chips = plan["chips"]
    seconds = {
        "compute": plan["flops_per_step"] / chips / chip.flops,
        "memory": plan["memory_traffic_bytes_per_chip"] / chip.hbm_bandwidth,
        # A mesh axis is assumed to lie along one dimension of the torus.
        "interconnect": sum(each.wire_bytes for each in exchanged) / (chip.link_bandwidth / chip.torus_dimensions),
    }
    step = max(seconds.values())
    rate = plan["batch_size"] / step
    share = min(1.0, MSP_PODCAST["mean_seconds"] / plan["utterance_seconds"])
    return {
        "seconds": {**seconds, "step": step},
        "bound_by": max(seconds, key=lambda name: seconds[name]),
        "mfu": plan["useful_flops_per_step"] / chips / chip.flops / step,
        "examples_per_second": rate,
        "msp_podcast_epoch_hours": MSP_PODCAST["utterances"] * share / rate / 3600,
        "msp_podcast": MSP_PODCAST,
    }


def _suggestions(config: ExperimentConfig, plan: dict[str, Any]) -> list[str]:
    """Changes that would make it fit, the cheapest first, or that would use free memory."""
    if plan["fits"]:
        if plan["peak_bytes_per_chip"] < 0.3 * plan["hbm_bytes_per_chip"] and config.training.micro_batches > 1:
            return ["training.micro_batches can be smaller: most of the memory is free"]
        return []
    over = plan["peak_bytes_per_chip"] / plan["hbm_bytes_per_chip"]
    found = []
    if config.model.dtype == "float32":
        found.append("--config.model.dtype=bfloat16")
    for modality in config.model.encoder_modalities:
        settings = getattr(config.model, modality)
        if settings.train != "nothing" and not settings.remat:
            found.append(f"--config.model.{modality}.remat=True")
    parts = config.training.micro_batches
    rows = config.data.batch_size // (plan["mesh"]["data"] * plan["mesh"]["fsdp"])
    more = min(rows, parts * 2 ** max(1, math.ceil(math.log2(over))))
    if more > parts:
        found.append(f"--config.training.micro_batches={more} (changes no loss)")
    if plan["mesh"]["fsdp"] == 1 and plan["mesh"]["data"] > 1:
        found.append(f"--config.mesh.fsdp={plan['mesh']['data']} --config.mesh.data=1")
    longest = max(config.data.bucket_seconds, default=config.data.max_seconds)
    return [*found, f"shorter data.bucket_seconds (now up to {longest:g} s)", "more chips"]


def _table(plan: dict[str, Any]) -> str:
    gigabytes = lambda count: f"{count / 2**30:8.2f} GiB"  # noqa: E731
    mesh = " x ".join(f"{axis} {size}" for axis, size in plan["mesh"].items())
    lines = [
        f"{plan['topology']}: {plan['chips']} chips, {mesh}",
        f"batch           {plan['batch_size']} x {plan['utterance_seconds']:g} s",
        f"parameters      {plan['trained_parameters']:,} trained, {plan['frozen_parameters']:,} frozen",
    ]
    for name in ("argument", "temporary", "result", "program"):
        if f"{name}_bytes_per_chip" in plan:
            lines.append(f"  {name:<14}{gigabytes(plan[f'{name}_bytes_per_chip'])}")
    verdict = "fits" if plan["fits"] else "DOES NOT FIT"
    peak, whole = plan["peak_bytes_per_chip"], plan["hbm_bytes_per_chip"]
    lines.append(f"memory per chip {gigabytes(peak)} of {gigabytes(whole)}: {verdict}")
    lines.append(f"FLOPs per step  {plan['flops_per_step']:.3g}, of which {plan['useful_flops_per_step']:.3g} once")
    for each in plan["collectives"]:
        size = each["bytes"] / 2**20
        lines.append(f"  {each['kind']:<18} over {each['axes']:<12} {each['count']:5} times {size:10.2f} MiB")
    if "predicted" in plan:
        predicted = plan["predicted"]
        parts = ", ".join(f"{name} {1e3 * value:.1f} ms" for name, value in predicted["seconds"].items())
        lines.append(f"predicted       {parts}; bound by {predicted['bound_by']}")
        lines.append(
            f"predicted       MFU {100 * predicted['mfu']:.0f} %, {predicted['examples_per_second']:.0f} examples/s, "
            f"{predicted['msp_podcast_epoch_hours']:.2f} h per epoch of MSP-Podcast {MSP_PODCAST['release']}"
        )
    lines += [f"try             {line}" for line in plan["suggestions"]]
    return "\n".join(lines)
