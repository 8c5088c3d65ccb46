"""Handling of Ctrl-C and SIGTERM: exit with one line, or a graceful stop within an interruption."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from emojax.interruption import Interruption, cleaned_up

ROOT = Path(__file__).parents[1]

BUSY = {
    "waiting": "time.sleep(60)",
    "in a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "in native code": "ctypes.CDLL(None).sleep(60); ctypes.CDLL(None).sleep(60)",
    "in a callback that swallows exceptions": """
def callback():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
callback()""",
}


def run(code, numbers, pause="at"):
    """Starts Python, sends each signal after a line of output; returns exit status, further output, stderr."""
    start = f"""
import ctypes, os, signal, sys, threading, time
from emojax.interruption import *
from emojax import interruption
watch_signals("emojax: ")
{code}
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", start], cwd=ROOT, **pipes) as process:
        try:
            for number in numbers:
                assert process.stdout.readline().startswith(pause)
                process.send_signal(number)
            out, error = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, out, error


@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.parametrize(
    ("number", "status", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_signal_ends_the_process_with_one_line(busy, number, status, name):
    code = f"print('at', flush=True)\n{BUSY[busy]}\nprint('went on', flush=True)"
    line = f"emojax: stopped by {name}; the same command can be run again\n"
    assert run(code, [number]) == (status, "", line)


LISTENING = """
with Interruption() as interruption:
    print("at", flush=True)
    while interruption.received is None:
        time.sleep(0.01)
    print("at", interruption.received.name, flush=True)
    {then}
print("saved", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_requests_a_stop_within_an_interruption(number):
    code = LISTENING.format(then="")
    assert run(code, [number]) == (0, f"at {number.name}\nsaved\n", "")


@pytest.mark.parametrize("busy", BUSY)
def test_second_signal_ends_a_hanging_process(busy):
    code = LISTENING.format(then=BUSY[busy].replace("\n", "\n    "))
    status, out, error = run(code, [signal.SIGINT, signal.SIGTERM])
    assert (status, out, error) == (143, "", "emojax: stopped at once by a second signal (SIGTERM)\n")


def test_cleanups_are_called_once(capfd):
    with cleaned_up(lambda: print("clean")):
        pass
    assert capfd.readouterr().out == "clean\n"
    code = "with cleaned_up(lambda: print('clean', flush=True)):\n    print('at', flush=True)\n    time.sleep(60)"
    assert run(code, [signal.SIGTERM])[:2] == (143, "clean\n")


def test_child_processes_ignore_ctrl_c_and_reset_handlers():
    blocked = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)"
    code = f"""
import subprocess
print("at", subprocess.check_output([sys.executable, "-c", {blocked!r}], text=True).strip(), flush=True)
child = os.fork()
if not child:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {{signal.SIGINT}})
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        os._exit(7)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
time.sleep(0.2)
"""
    status, out, error = run(code, [])
    assert (status, out, error) == (0, "at True\nchild 7\n", "")


def test_interruption_installs_handlers_without_watch_signals():
    before = signal.getsignal(signal.SIGTERM)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert interruption.received is signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before


def test_interruption_in_another_thread_receives_nothing():
    failures = []

    def work():
        try:
            with Interruption():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []


def catches_sigterm(process):
    """Whether a process has installed its handler (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("command", "begin"),
    [
        (["launch.py", "--config=configs/default.py", "--workdir=absent"], ""),
        (["-m", "emojax", "config"], ""),
        (["-m", "tfds_builders"], "tfds_builders: "),
    ],
)
def test_commands_handle_signals_during_imports(command, begin):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, env=os.environ, **pipes) as process:
        while process.poll() is None and not catches_sigterm(process):
            pass
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, f"{begin}stopped by Ctrl-C; the same command can be run again\n")
