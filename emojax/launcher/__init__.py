"""The command that trains and evaluates: `python launch.py`, in an installed package `emojax-launch`."""

import os
import sys

from emojax.interruption import quiet_native_logs, started_with_others, watch_signals


def launch() -> None:
    """Runs the command with the arguments of this process, and ends the process with its exit status."""
    watch_signals()  # what is imported below takes seconds
    # NumPy's products are small (linear models): more threads of OpenBLAS, which wait in loops, multiply their time
    # wherever another process has the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if started_with_others() or any("num_processes" in word for word in sys.argv):
        quiet_native_logs()  # before a config file, which is read with the flags, imports JAX
    from absl import app

    from emojax.launcher.flags import parse_flags, show_help_of
    from emojax.launcher.modes import main

    show_help_of(sys.argv[0])
    app.run(main, flags_parser=parse_flags)
