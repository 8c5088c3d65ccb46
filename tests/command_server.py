"""Runs `launch.py` in forks of one process that has imported what it imports: most of the time of a short command.

Each command is a process of its own, in which JAX starts anew, with its own devices and signals. Figures are blank, and
native libraries log errors only: `launch.py` sets their level before it imports JAX, which is too late in a fork.
`python -m tests.command_server` is the process that is forked.
"""

import atexit
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import pytest

from tests.blank_figures import patch_figures
from tests.uncompressed_cache import patch_compression

ROOT = Path(__file__).parents[1]


class Command:
    """A running or finished command, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, server: "CommandServer", pid: int, output: Path) -> None:
        self.pid, self.returncode = pid, None
        self._server, self._output = server, output

    def poll(self) -> int | None:
        """Exit status, negative after a signal; None while the command runs."""
        if self.returncode is None:
            self.returncode = self._server.ask({"status": self.pid})
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the command has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends the command."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 300.0) -> tuple[str, str]:
        """Waits for the end; returns what the command has written to stdout and stderr."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise subprocess.TimeoutExpired("launch.py", timeout)
            time.sleep(0.02)
        return (self._output / "stdout").read_text(), (self._output / "stderr").read_text()


class CommandServer:
    """Starts commands of `launch.py`, each in a process that is forked off one process."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.command_server"],
            cwd=ROOT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._folder = tempfile.TemporaryDirectory(prefix="emojax-commands-")
        self._count = 0

    def start(
        self, *arguments: object, data_dir: object = "", devices: int = 1, largest_file: int | None = None
    ) -> Command:
        """Starts a command.

        Args:
          arguments: of `launch.py`.
          data_dir: `$TFDS_DATA_DIR`.
          devices: virtual CPU devices.
          largest_file: bytes beyond which no file can grow, output included: writes fail then as on a full disk.
        """
        output = Path(self._folder.name) / str(self._count)
        output.mkdir()
        self._count += 1
        request = {"arguments": list(map(str, arguments)), "output": str(output), "devices": devices}
        request |= {"data_dir": str(data_dir), "largest_file": largest_file}
        return Command(self, self.ask(request), output)

    def run(self, *arguments: object, **options) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; the options are those of `start`."""
        command = self.start(*arguments, **options)
        output, errors = command.communicate()
        return subprocess.CompletedProcess(arguments, command.returncode, output, errors)

    def ask(self, request: dict) -> int | None:
        """Answer of the forked process to a request."""
        self._server.stdin.write(json.dumps(request) + "\n")
        answer = self._server.stdout.readline()
        assert answer, "the process that is forked has ended"
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process that is forked."""
        self._server.kill()
        self._server.communicate()
        self._folder.cleanup()


PRELOADED = (
    "array_record.python.array_record_data_source",
    "configs.default",
    "emojax.cross_validation",
    "emojax.extraction",
    "emojax.importers",
    "emojax.launcher.modes",
    "emojax.model_tests",
    "emojax.reporting",
    "emojax.training",
    "grain.multiprocessing",
    "matplotlib.backends.backend_agg",
    "orbax.checkpoint.experimental.v1",
    "tensorboardX",  # imports PyTorch
    "tensorflow_datasets.proto",
)


def _serve() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    warnings.simplefilter("ignore")  # that JAX, which has not started here, does not like forks
    patch_figures(pytest.MonkeyPatch())
    patch_compression()
    for line in sys.stdin:
        request = json.loads(line)
        if "status" in request:
            pid, status = os.waitpid(request["status"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                _run(request)
        print(json.dumps(answer), flush=True)


def _run(request: dict) -> None:
    import runpy

    import jax

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        path = os.path.join(request["output"], name)
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), number)
    os.environ["TFDS_DATA_DIR"] = request["data_dir"]
    jax.config.update("jax_num_cpu_devices", request["devices"])
    if request["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"],) * 2)
    sys.argv = ["launch.py", *request["arguments"]]
    sys.path[0] = os.getcwd()
    try:
        runpy.run_path("launch.py", run_name="__main__")
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        # As Python ends, but for the teardown of what was imported, which takes a second or two.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)
    sys.exit()


if __name__ == "__main__":
    _serve()
