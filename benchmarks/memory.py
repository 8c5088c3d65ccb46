"""Memory of a process and its workers (Linux)."""

from pathlib import Path


def private_mb(pid):
    """Anonymous memory (without a file behind it) of a process and all below it, in MB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        own = sum(int(status.split(kind)[1].split()[0]) for kind in ("RssAnon:", "RssShmem:")) / 1024
        children = [
            child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()
        ]
    except (OSError, IndexError):  # it has ended
        return 0.0
    return own + sum(private_mb(int(child)) for child in children)
