"""Programs that start one process per task, srun and Open MPI's mpirun; known before anything imports JAX."""

import os

_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
"""Variables in which they give the number of processes started."""


def started_with_others() -> bool:
    """Whether a launcher started this process as one of several."""
    return any(int(os.environ.get(name) or 1) > 1 for name in _TASKS)


def quiet_native_logs() -> None:
    """Turns off what C++ logs of lost connections, before jaxlib is imported; a level the user has set stays."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # what JAX sets itself
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
