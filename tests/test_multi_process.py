"""Two processes of two devices each: equal results, one log, lost processes, resuming."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emojax.errors import ConfigError
from emojax.parallel import join_processes
from tests.command_server import ROOT
from tests.test_launch import command, environment, logged, training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def start(commands, mini_data_dir):
    """Starts one process; with a port, one of two."""

    def started(workdir, number=0, port=0, devices=2, more=()):
        others = () if not port else (f"--coordinator=localhost:{port}", "--num_processes=2", f"--process_id={number}")
        arguments = (*training(workdir), *others, *more, "--heartbeat_seconds=20", "--join_seconds=60")
        return commands.start(*arguments, data_dir=mini_data_dir, devices=devices)

    return started


@pytest.fixture(scope="module")
def start_alone(mini_data_dir):
    """As `start`, but each process is a Python of its own and not a fork."""

    def started(workdir, number, port):
        others = (f"--coordinator=localhost:{port}", "--num_processes=2", f"--process_id={number}")
        arguments = (*training(workdir), *others, "--heartbeat_seconds=10", "--join_seconds=60")
        settings = environment(mini_data_dir) | {"JAX_NUM_CPU_DEVICES": "2"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command(*arguments), cwd=ROOT, env=settings, **pipes)

    return started


def start_two(start, workdir, **settings):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    return [start(workdir, number, port, **settings) for number in range(2)]


def finish(processes, timeout=240):
    """Waits for processes; returns their exit codes and stderr."""
    try:
        errors = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], errors


def assert_lost(code, error):
    """One line, and no abort with its log."""
    lines = [line for line in error.splitlines() if "ETA" not in line and not line.startswith(("step ", "process "))]
    assert (code, len(lines)) == (1, 1), error
    assert lines[0].startswith("error: another process was lost; run the same command again on all of them"), error


def wait_for_lines(workdir, count, processes):
    log = Path(workdir) / "metrics.jsonl"
    while all(process.poll() is None for process in processes):
        if log.exists() and len(log.read_text().splitlines()) >= count:
            return
        time.sleep(0.002)
    raise AssertionError(finish(processes))


@pytest.fixture(scope="module")
def together(start, lost, idle, tmp_path_factory):  # these wait for heartbeats while others train
    workdir = tmp_path_factory.mktemp("runs") / "together"
    codes, errors = finish(start_two(start, workdir))
    assert codes == [0, 0], errors
    return workdir, errors


def numbers(workdir):
    lines = logged(workdir)
    return [[line["step"], *(value for name, value in sorted(line.items()) if "loss" in name)] for line in lines]


def scores(workdir):
    found = json.loads((workdir / "evaluation" / "test.json").read_text())
    return [found["ccc"][name]["value"] for name in ("activation", "valence", "dominance")]


def test_two_processes_train_and_evaluate_together(together, start, tmp_path):
    workdir, errors = together
    codes, alone_errors = finish([start(tmp_path / "alone", devices=4)])
    assert codes == [0], alone_errors
    assert [line["step"] for line in logged(workdir)] == [line["step"] for line in logged(tmp_path / "alone")]
    for ours, theirs in zip(numbers(workdir), numbers(tmp_path / "alone"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4)
    np.testing.assert_allclose(scores(workdir), scores(tmp_path / "alone"), atol=2e-3)
    assert "step 20, epoch 4" in errors[0]
    assert "step 20, epoch 4" not in errors[1]  # told once


def test_two_processes_share_the_recordings_of_an_annotation(together, commands, mini_data_dir, tmp_path):
    workdir, _ = together
    random, burst = np.random.default_rng(0), np.repeat([1e-4, 0.1, 1e-4], 16_000)
    (tmp_path / "audio").mkdir()
    for name in "abc":
        soundfile.write(tmp_path / "audio" / f"{name}.wav", burst * random.normal(size=len(burst)), 16_000)
    (tmp_path / "audio" / "damaged.wav").touch()
    arguments = ["--mode=annotate", f"--workdir={workdir}", f"--output={tmp_path / 'out'}", "--config=annotate"]
    arguments += ["--config.activity.detector=energy", "--num_processes=2", str(tmp_path / "audio")]
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        arguments.append(f"--coordinator=localhost:{probe.getsockname()[1]}")
    codes, errors = finish(
        [commands.start(*arguments, f"--process_id={number}", data_dir=mini_data_dir) for number in range(2)]
    )
    assert codes == [1, 1], errors
    assert sorted(path.name for path in (tmp_path / "out").glob("*.json")) == ["a.json", "b.json", "c.json"]
    assert [error.count("damaged.wav: has no bytes") for error in errors] == [0, 1]  # every second one is a host's


def test_two_hosts_of_four_devices_shard_parameters_within_a_host_and_batches_between(together, start, tmp_path):
    mesh = ("--config.mesh.dcn=2", "--config.mesh.data=2", "--config.mesh.fsdp=2")
    codes, errors = finish(start_two(start, tmp_path / "dcn", devices=4, more=mesh))
    assert codes == [0, 0], errors
    for ours, theirs in zip(numbers(tmp_path / "dcn"), numbers(together[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4)
    np.testing.assert_allclose(scores(tmp_path / "dcn"), scores(together[0]), atol=2e-3)


@pytest.fixture(scope="module")
def lost(start_alone, tmp_path_factory):
    """Workdir of a run, its two processes, and the number of the one that was killed."""
    workdir = tmp_path_factory.mktemp("runs") / "killed"
    processes = start_two(start_alone, workdir)
    wait_for_lines(workdir, 9, processes)
    victim = os.getpid() % 2  # now the one that coordinates, now the other
    processes[victim].send_signal(signal.SIGKILL)
    yield workdir, processes, victim
    for process in processes:
        process.kill()


def test_lost_process_stops_the_other_and_both_continue_exactly(together, start, lost):
    workdir, processes, victim = lost
    codes, errors = finish(processes, timeout=60)
    assert codes[victim] == -signal.SIGKILL
    survivor = 1 - victim
    assert_lost(codes[survivor], errors[survivor])
    codes, errors = finish(start_two(start, workdir))
    assert codes == [0, 0], errors
    assert logged(workdir) == logged(together[0])


_IDLE = """
import sys, time
from emojax.interruption import quiet_native_logs, watch_signals
watch_signals()
quiet_native_logs()
from emojax.parallel import join_processes
join_processes(sys.argv[1], 2, int(sys.argv[2]), heartbeat_seconds=10)
print("joined", flush=True)
time.sleep(120)  # in set-up, say: nothing is exchanged
"""


LOST = {signal.SIGKILL: 0, signal.SIGTERM: 1}
"""Signal -> number of the process that gets it."""


@pytest.fixture(scope="module")
def idle():
    """Signal -> two idle processes of which one has got it: both pairs wait for heartbeats at the same time."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    pairs = {}
    for number in LOST:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            command = [sys.executable, "-c", _IDLE, f"localhost:{probe.getsockname()[1]}"]
        pairs[number] = [subprocess.Popen([*command, str(k)], cwd=ROOT, **pipes) for k in range(2)]
    for number, processes in pairs.items():
        for process in processes:
            assert process.stdout.readline() == "joined\n"
        processes[LOST[number]].send_signal(number)
    yield pairs
    for processes in pairs.values():
        for process in processes:
            process.kill()


@pytest.mark.parametrize("number", LOST)
def test_idle_process_exits_when_another_is_lost(idle, number):
    victim = LOST[number]
    codes, errors = finish(idle[number], timeout=90)
    assert_lost(codes[1 - victim], errors[1 - victim])
    if number is signal.SIGTERM:  # which JAX alone would swallow
        assert (codes[victim], errors[victim].splitlines()[-1]) == (
            143,
            "stopped by SIGTERM; the same command can be run again",
        )


def test_sigterm_to_one_process_stops_all_and_one_process_continues(together, start, tmp_path):
    workdir = tmp_path / "stopped"
    processes = start_two(start, workdir)
    wait_for_lines(workdir, 6, processes)
    processes[1].send_signal(signal.SIGTERM)
    codes, errors = finish(processes)
    assert codes == [0, 0], errors
    stopped = json.loads((workdir / "summary.json").read_text())
    assert stopped["stop_reason"] == "interrupted"
    assert (workdir / "checkpoints" / str(stopped["steps"])).is_dir()
    codes, errors = finish([start(workdir, devices=1)])  # two hosts' checkpoint on one device
    assert codes == [0], errors
    for ours, theirs in zip(numbers(workdir), numbers(together[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=5e-4)


def test_missing_process_raises(commands, tmp_path):
    arguments = ["--config=configs/default.py", f"--workdir={tmp_path / 'run'}"]
    for more, message in (
        (["--num_processes=2"], "must be given together, or none of them"),
        (
            ["--coordinator=localhost:1", "--num_processes=2", "--process_id=1", "--join_seconds=3"],
            "process 1 of 2, coordinator localhost:1: cannot be reached after 3 s",
        ),
    ):
        result = commands.run(*arguments, *more)
        assert result.returncode != 0
        assert message in result.stderr, result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost", 2, 0), "--coordinator must be HOST:PORT, got 'localhost'"),
        ((":1234", 2, 0), "--coordinator must be HOST:PORT, got ':1234'"),
        (("localhost:99999", 2, 1), "--coordinator must be HOST:PORT, got 'localhost:99999'"),
        (("localhost:1234", 2, 2), r"--process_id must be < --num_processes \(2\), got 2"),
        (("localhost:1234", 2, -1), "must be given together"),
    ],
)
def test_invalid_processes_are_errors(arguments, message):
    with pytest.raises(ConfigError, match=message):
        join_processes(*arguments)
