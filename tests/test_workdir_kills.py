"""Checkpoints after kills at fifty random times, also during saves."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KILLS = 50

_SAVE = """
import os, sys
from pathlib import Path
import numpy as np
from orbax.checkpoint import v1  # which checkpoints import when they are first used

from emojax.parallel import MeshConfig, make_mesh, replicated, to_device
from emojax.workdir import Checkpoints, abstract_like

directory = Path(sys.argv[1])

def run():  # counts on from the latest checkpoint, saving every number as arrays that all hold it
    whole = replicated(make_mesh(MeshConfig(1, 1)))
    put = lambda values: to_device(values, whole)
    tree = lambda step: {"a": put(np.full((64, 64), step, np.float32)), "b": put(np.int32(step))}
    with Checkpoints(directory, writing=True) as checkpoints:
        first = checkpoints.latest_step or 0
        if first:
            like = abstract_like({"model": tree(0), "training": {"n": tree(0)["b"]}}, whole)
            parts = checkpoints.restore(first, like)
            assert (np.asarray(parts["model"]["a"]) == first).all() and parts["training"]["n"] == first
            assert checkpoints.metadata(first) == {"n": first}
        print("at", first, flush=True)
        step = first
        while True:
            step += 1
            checkpoints.save(step, tree(step), {"n": tree(step)["b"]}, {"n": step}, float(step % 7))

for line in sys.stdin:  # a child per line, so that importing is paid for once
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(1)
    print("child", child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


@pytest.mark.slow
def test_killed_run_continues_from_its_latest_checkpoint(tmp_path):
    directory, draw = tmp_path / "checkpoints", random.Random(0)
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    latest, unfinished, longest = 0, 0, 0.15
    with subprocess.Popen([sys.executable, "-c", _SAVE, directory], cwd=ROOT, env=environment, **pipes) as driver:
        for kill in range(KILLS):
            driver.stdin.write("go\n")
            driver.stdin.flush()
            said = [driver.stdout.readline().split() for _ in range(2)]
            assert sorted(line[0] for line in said) == ["at", "child"], f"kill {kill}: {said}"
            found = {line[0]: int(line[1]) for line in said}
            assert found["at"] >= latest, "a finished checkpoint was lost"
            time.sleep(draw.uniform(0.0, longest))
            os.kill(found["child"], signal.SIGKILL)
            assert driver.stdout.readline() == "gone\n"
            whole = [int(path.name) for path in directory.iterdir() if path.name.isdigit()]
            unfinished += any("tmp" in path.name for path in directory.iterdir())
            if latest == max(whole, default=0):  # a busy machine needs longer for a save
                longest = min(1.2 * longest, 5.0)
            latest = max(whole, default=0)
        driver.stdin.close()
    assert latest > KILLS / 2
    assert unfinished > KILLS / 5, "the kills hardly ever met a save"
