"""Atomic file writes."""

import os
import stat

import numpy as np
import pytest
from safetensors.numpy import save_file

from emojax.errors import EmojaxError
from emojax.files import atomic_write


def test_atomic_write_replaces_a_file_only_on_success(tmp_path):
    path = tmp_path / "folder" / "file"
    with atomic_write(path) as temporary:
        temporary.write_text("old")

    def interrupted():
        with atomic_write(path) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file"]


def test_atomic_write_keeps_default_permissions(tmp_path):
    (tmp_path / "usual").touch()
    with atomic_write(tmp_path / "weights") as temporary:
        save_file({"a": np.zeros(3)}, temporary)
    assert stat.S_IMODE((tmp_path / "weights").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_atomic_write_raises_naming_an_unwritable_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmojaxError, match=r"file/below: cannot be written"), atomic_write(tmp_path / "file" / "below"):
        pytest.fail("there is nothing to write to")
