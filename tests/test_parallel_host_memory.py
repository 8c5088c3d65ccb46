"""Freed memory is kept by the process."""

import platform
import subprocess
import sys

import pytest

from emojax.parallel import keep_freed_memory

_FAULTS = """
import resource, sys

if sys.argv[1] == "keep":
    from emojax.parallel import keep_freed_memory
    assert keep_freed_memory()
def touch():
    b"x" * (40_000_000 + len(sys.argv))
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the settings")
def test_keep_freed_memory_avoids_page_faults():
    def faults(mode):
        run = subprocess.run([sys.executable, "-c", _FAULTS, mode], capture_output=True, text=True, check=True)
        return int(run.stdout)

    assert faults("keep") < 100
    assert faults("give") > 5_000


def test_keep_freed_memory_has_no_effect_without_glibc(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
