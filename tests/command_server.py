"""Runs `launch.py` in forks of one process that has imported what it imports: most of the time of a short command."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

_SERVER = """
import json, os, runpy, sys, warnings

import emojax.extraction, emojax.reporting, emojax.training
import configs.default

warnings.simplefilter("ignore")  # that JAX, which has not started here, does not like forks
for line in sys.stdin:
    arguments, output = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(os.path.join(output, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["launch.py", *arguments]
        sys.path[0] = os.getcwd()
        runpy.run_path("launch.py", run_name="__main__")
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class CommandServer:
    """`launch.py` as often as wanted, one after the other, each in a process of its own that is forked off this one."""

    def __init__(self, environment: dict[str, str], output: Path) -> None:
        """Starts it.

        Args:
          environment: of the commands.
          output: folder for what they write.
        """
        self._output = output
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end."""
        self._process.stdin.write(json.dumps([list(map(str, arguments)), str(self._output)]) + "\n")
        status = int(self._process.stdout.readline())
        written = [(self._output / name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(arguments, status, *written)

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()
