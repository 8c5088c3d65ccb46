"""Plans a run on a TPU slice: the step's cost, the length of a run, and what to change; writes and prints them."""

import math
from pathlib import Path
from typing import Any

import jax

from emojax.config import ExperimentConfig
from emojax.parallel import BATCH_AXES
from emojax.planning.abstract import plan_metadata
from emojax.planning.chips import Chip, find_chip, topology_devices
from emojax.planning.report import describe
from emojax.planning.search import describe_remat, search
from emojax.planning.step import plan_step, utterance_seconds
from emojax.training.defaults import fill_epochs
from emojax.workdir import check_same_config, holds, write_config, write_corpus_metadata, write_json

PLAN = "plan.json"
"""The plan of a workdir."""

MSP_PODCAST: dict[str, Any] = {"release": "1.11", "utterances": 84_030, "mean_seconds": 5.65}
"""Its training partition (README of the release; 237 h 56 min in 151,654 turns altogether)."""


@holds("workdir")
def plan_workdir(
    config: ExperimentConfig, workdir: Path, topology: str, *, corpus_hours: float = 0.0, searched: bool = False
) -> dict[str, Any]:
    """Compiles the training step of a config for a TPU slice and writes `plan.json`.

    Times are predicted as a roofline: the longest of computing at the chip's peak FLOP/s, of memory traffic at its peak
    bandwidth, and of collectives at the bandwidth of its links; and in addition the latency of recurrent loops. See
    `emojax.planning.step.predict`.

    Args:
      config: config of the run; see `emojax.planning.abstract.abstract_run` for what need not be on this machine.
      workdir: folder of the plan; a further plan can name it as its teacher.
      topology: e.g. `v5e:16x16`.
      corpus_hours: length of the training corpus (h), in utterances of the mean length of MSP-Podcast's; 0: that of
        MSP-Podcast.
      searched: choose mesh, rows per chip and rematerialisation (`emojax.planning.search`) in place of the config's.

    Returns:
      The content of `plan.json`.

    Raises:
      EmojaxError: one line saying what is wrong with topology, config or encoder.
    """
    chip = find_chip(topology)
    jax.config.update("jax_platforms", "cpu")  # nothing runs; a TPU of this machine is left to others
    check_same_config(config, workdir)
    devices = topology_devices(topology)
    print(f"compiling the step for {len(devices)} chips", flush=True)
    if searched:
        config, plan = _search(config, chip, devices)
    else:
        plan = plan_step(config, chip, devices)
    plan = {"topology": topology, **plan}
    write_config(workdir, config)
    write_corpus_metadata(workdir, plan_metadata(config))
    if "predicted" in plan:
        plan["run"] = run_length(config, plan, corpus_hours)
    plan["suggestions"] = suggestions(config, plan)
    write_json(workdir / PLAN, plan)
    print(describe(plan), flush=True)
    return plan


def _search(config: ExperimentConfig, chip: Chip, devices: list[Any]) -> tuple[ExperimentConfig, dict[str, Any]]:
    """The best config and its plan, with the list of what was tried."""

    def evaluate(tried: ExperimentConfig) -> dict[str, Any]:
        plan = plan_step(tried, chip, devices)
        rows = tried.data.batch_size // len(devices)
        fits = f"{plan['peak_bytes_per_chip'] / 2**30:.2f} GiB" + ("" if plan["fits"] else ", does not fit")
        step = f", {1e3 * plan['predicted']['seconds']['step']:.1f} ms" if "predicted" in plan else ""
        print(f"  {rows} rows per chip, fsdp {tried.mesh.fsdp}{describe_remat(tried)}: {fits}{step}", flush=True)
        return plan

    best, trials = search(config, len(devices), evaluate)
    print(f"best: {best.flags}", flush=True)
    return best.config, best.plan | {"search": [trial.summary for trial in trials], "flags": best.flags}


def run_length(config: ExperimentConfig, plan: dict[str, Any], corpus_hours: float) -> dict[str, Any]:
    """Hours and chip-hours of training on a corpus, from the predicted examples/s; None where these are unknown.

    Every utterance counts as padded to the length of the plan. Start, evaluation and checkpoints are not included.

    Args:
      config: config of the run; gives the number of epochs.
      plan: with `predicted`.
      corpus_hours: length of the corpus (h); 0: MSP-Podcast.
    """
    hours = corpus_hours or MSP_PODCAST["utterances"] * MSP_PODCAST["mean_seconds"] / 3600
    utterances = round(hours * 3600 / MSP_PODCAST["mean_seconds"])
    epochs = fill_epochs(config, utterances).training.epochs
    rate = plan["predicted"]["examples_per_second"]
    steps = math.ceil(utterances / config.data.batch_size)
    epoch = None if rate is None else steps * config.data.batch_size / rate / 3600
    return {
        "corpus": "given" if corpus_hours else f"MSP-Podcast {MSP_PODCAST['release']}",
        "corpus_hours": hours,
        "utterances": utterances,
        "epochs": epochs,
        "steps": epochs * steps,
        "epoch_hours": epoch,
        "hours": None if epoch is None else epochs * epoch,
        "chip_hours": None if epoch is None else epochs * epoch * plan["chips"],
    }


def suggestions(config: ExperimentConfig, plan: dict[str, Any]) -> list[str]:
    """Lists changes that would make a step fit, the cheapest first, or that would use free memory.

    Args:
      config: config of the run.
      plan: its plan.
    """
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
    rows = config.data.batch_size // math.prod(plan["mesh"][axis] for axis in BATCH_AXES)
    more = min(rows, parts * 2 ** max(1, math.ceil(math.log2(over))))
    if more > parts:
        found.append(f"--config.training.micro_batches={more} (changes no loss)")
    if plan["mesh"]["fsdp"] == 1 and plan["mesh"]["data"] > 1:
        found.append(f"--config.mesh.fsdp={plan['mesh']['data']} --config.mesh.data=1")
    return [*found, f"shorter data.bucket_seconds (now up to {utterance_seconds(config):g} s)", "more chips"]
