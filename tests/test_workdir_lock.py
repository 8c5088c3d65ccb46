"""Write lock of a workdir: exclusion, dead and remote holders."""

import json
import os
import threading
import time

import pytest

from emojax.errors import EmojaxError
from emojax.files import LOCK, is_vacant
from emojax.workdir import CONFIG, hold, holds, lock
from emojax.workdir.lock import _locked


def plant(folder, age=0.0, **changes):
    """A lock file that a process left or holds without flock."""
    path = folder / LOCK
    path.write_text(json.dumps(lock._this_process() | changes))
    os.utime(path, (time.time() - age, time.time() - age))


@pytest.fixture(params=[True, False], ids=["flock", "no flock"])
def flock(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(lock, "fcntl", None)
        monkeypatch.setattr(lock, "_SETTLE_SECONDS", 0.05)
    return request.param


def test_second_holder_raises_naming_host_and_process(tmp_path, flock):
    with _locked(tmp_path), pytest.raises(EmojaxError) as caught, _locked(tmp_path):
        pytest.fail("both hold it")
    this = lock._this_process()
    assert str(caught.value).startswith(f"{tmp_path}: process {this['pid']} on {this['host']} is writing there; wait")
    with _locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_stale_lock_is_acquired_by_one_process_only(tmp_path, flock):
    plant(tmp_path, pid=2**22 + 1)
    start, finish, got = threading.Barrier(8), threading.Barrier(8), []

    def take():
        start.wait()
        try:
            with _locked(tmp_path):
                got.append(True)
                finish.wait()
                return
        except EmojaxError:
            finish.wait()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True]


@pytest.mark.parametrize("changes", [{"pid": 2**22 + 1}, {"started": "12"}, {"pid": "text"}, {"host": None}])
def test_lock_of_a_dead_process_is_acquired(tmp_path, flock, changes):
    """Of this host: no such process, another one with its number (it started at another time), or a damaged file."""
    plant(tmp_path, **changes | ({"host": lock._this_process()["host"]} if changes.get("host", 1) else {}))
    if flock or "host" not in changes:
        with _locked(tmp_path):
            pass


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"{}", b"[" * 10_000])
def test_damaged_lock_file_is_ignored(tmp_path, flock, content):
    (tmp_path / LOCK).write_bytes(content)
    with _locked(tmp_path):
        pass


def test_remote_holder_is_alive_while_its_heartbeat_is_recent(tmp_path, flock):
    other = {"host": "gpu-7", "boot": "another", "pid": 5}
    plant(tmp_path, age=60, **other)
    with pytest.raises(EmojaxError, match=r"process 5 on gpu-7 .*heartbeat was (59|6\d) s ago"), _locked(tmp_path):
        pytest.fail("it is held")
    plant(tmp_path, age=1000, **other)
    with _locked(tmp_path):
        pass


def test_holder_renews_its_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_HEARTBEAT_SECONDS", 0.01)
    with _locked(tmp_path):
        os.utime(tmp_path / LOCK, (0, 0))
        for _ in range(1000):
            if (tmp_path / LOCK).stat().st_mtime > 1e9:
                return
            time.sleep(0.01)
        pytest.fail("no heartbeat")


def test_holder_exits_if_its_lock_was_taken(tmp_path, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(lock, "_HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(lock, "end_process", lambda status, message: ended.set() if "gpu-7" in message else None)
    with _locked(tmp_path):
        plant(tmp_path, host="gpu-7")
        assert ended.wait(30)
    assert (tmp_path / LOCK).exists()  # the other's


def test_lock_is_reentrant(tmp_path):
    with hold(tmp_path):
        with hold(tmp_path):
            assert (tmp_path / LOCK).exists()
        with pytest.raises(EmojaxError, match="is writing there"), _locked(tmp_path):
            pytest.fail("it is held")
    assert not (tmp_path / LOCK).exists()


def test_holds_decorator_locks_the_named_folder(tmp_path):
    seen = []

    @holds("workdir")
    def write(config, workdir):
        seen.append((workdir / LOCK).exists())
        raise EmojaxError(config)

    with pytest.raises(EmojaxError, match="wrong"):
        write("wrong", tmp_path / "runs" / "new")
    assert seen == [True]
    assert os.listdir(tmp_path) == []  # neither the lock nor the folders made for it


def test_hold_without_create_ignores_an_absent_folder(tmp_path):
    with hold(tmp_path / "absent", create=False):
        assert not (tmp_path / "absent").exists()


def test_unwritable_folder_raises_naming_it(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(EmojaxError, match="file: must be a folder"), hold(tmp_path / "file"):
        pytest.fail("a file")
    (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmojaxError, match="cannot be written"), hold(tmp_path):
        pytest.fail("a link")
    assert not (tmp_path / "elsewhere").exists()


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    left = [".config.json.123.tmp", "evaluation/other/.test.csv.7.0a1b2c3d.tmp", ".summary.json.1.00000000.tmp"]
    kept = ["evaluation/other/test.csv", ".hidden", ".config.json.tmp", "a.1.tmp", "one/two/three/.deep.1.tmp"]
    for name in (CONFIG, *left, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with hold(tmp_path):
        found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {CONFIG, LOCK, *kept}


def test_only_workdirs_and_killed_starts_are_cleaned(tmp_path):
    (tmp_path / ".config.json.1.tmp").touch()
    with hold(tmp_path):
        assert is_vacant(tmp_path)
    (tmp_path / ".config.json.1.tmp").touch()
    (tmp_path / "photo.jpg").touch()
    with hold(tmp_path):
        assert (tmp_path / ".config.json.1.tmp").exists()
