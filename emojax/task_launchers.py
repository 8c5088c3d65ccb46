"""Detection of launchers that start one process per task (srun, Open MPI's mpirun), without importing JAX."""

import os

_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
"""Environment variables with the number of processes."""


def started_with_others() -> bool:
    """Whether a launcher started this process as one of several."""
    return any(int(os.environ.get(name) or 1) > 1 for name in _TASKS)


def quiet_native_logs() -> None:
    """Silences C++ logs of lost connections; must run before jaxlib is imported. A level set by the user is kept."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # what JAX sets itself
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
