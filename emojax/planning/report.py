"""Text of a plan."""

from typing import Any

_SHOWN = 20
"""Rows of the memory traffic that are printed."""


def describe(plan: dict[str, Any]) -> str:
    """Formats a plan as lines.

    Args:
      plan: content of `plan.json`.
    """
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
        lines += [*_traffic(plan), *_loops(plan), *_times(plan)]
    lines += [f"try             {line}" for line in plan["suggestions"]]
    return "\n".join(lines)


def _traffic(plan: dict[str, Any]) -> list[str]:
    total = plan["memory_traffic_bytes_per_chip"]
    lines = [f"memory traffic  {total / 2**30:.2f} GiB per chip and step; the largest shares:"]
    for row in plan["memory_traffic"][:_SHOWN]:
        size = f"{row['bytes'] / 2**20:10.1f} MiB {100 * row['bytes'] / max(total, 1):5.1f} %"
        lines.append(f"  {size} {row['count']:6} times  {row['operation']}, {row['array']} {row['source']}".rstrip())
    return lines


def _loops(plan: dict[str, Any]) -> list[str]:
    lines = []
    for loop in plan["loops"]:
        times = "unknown number" if loop["iterations"] is None else f"{loop['iterations']:,}"
        each = "latency unknown" if loop["cycles"] is None else f"at least {loop['cycles']:,} cycles each"
        lines.append(f"loop            {times} sequential iterations of {loop['name']}, {each}")
    return lines


def _times(plan: dict[str, Any]) -> list[str]:
    predicted = plan["predicted"]
    parts = ", ".join(f"{name} {_milliseconds(value)}" for name, value in predicted["seconds"].items())
    lines = [f"predicted       {parts}; bound by {predicted['bound_by']}"]
    if predicted["mfu"] is None:
        bound = f"MFU at most {100 * predicted['mfu_at_most']:.1f} %"
        lines.append(f"predicted       {bound}; examples/s unknown, as one of these times is")
        return lines
    lines.append(
        f"predicted       MFU {100 * predicted['mfu']:.1f} %, {predicted['examples_per_second']:.0f} examples/s"
    )
    if predicted["compiler_seconds"] is not None:
        share = plan["useful_flops_per_step"] / plan["flops_per_step"] if plan["flops_per_step"] else 0.0
        mfu = share * predicted["seconds"]["compute"] / predicted["compiler_seconds"]
        milliseconds = _milliseconds(predicted["compiler_seconds"])
        lines.append(f"compiler        estimates {milliseconds} without custom kernels (MFU {100 * mfu:.1f} %)")
    run = plan["run"]
    lines.append(
        f"whole run       {run['epochs']} epochs of {run['utterances']:,} utterances ({run['corpus']}, "
        f"{run['corpus_hours']:.0f} h): {run['hours']:.2f} h, {run['chip_hours']:.1f} chip-hours"
    )
    return lines


def _milliseconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{1e3 * seconds:.1f} ms"
