"""Metric log: synchronous writes, full disks, resuming with invalid records."""

import json
import os
import socket
import struct
import subprocess
import threading

import pytest
from tensorboardX import SummaryWriter
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from emojax.errors import CheckpointError, TrainingError
from emojax.reporting.learning_curves import read_curves
from emojax.training.metric_log import EventFile, MetricLog

DAMAGED = [b"[1]", b"\xff\xfe", b"3", b"null", b'{"step": "two"}', b'{"epoch": 1}', b'{"step": NaN}', b"[" * 10_000]


def events(folder):
    """The events of a folder's only file; checksums hold."""
    (path,) = folder.iterdir()
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        body = data[12 : 12 + length]
        assert struct.unpack("<I", data[8:12])[0] == masked_crc32c(data[:8])
        assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked_crc32c(body)
        event = event_pb2.Event.FromString(body)
        event.wall_time = 0
        found.append(event)
        data = data[16 + length :]
    return path.name, found


def test_events_equal_those_of_tensorboardx(tmp_path):
    scalars = [(4, {"train/loss": 0.5, "seconds/step": 0.25}), (5, {"train/loss": float("nan")})]
    ours = EventFile(tmp_path / "ours", 4)
    with SummaryWriter(str(tmp_path / "theirs"), purge_step=4) as theirs:
        for step, values in scalars:
            ours.write(step, values)
            for name, value in values.items():
                theirs.add_scalar(name, value, step)
    ours.close()
    (name, written), (_, expected) = events(tmp_path / "ours"), events(tmp_path / "theirs")
    assert "tfevents" in name
    assert socket.gethostname() in name

    def plain(found):
        points = [(event.step, value.tag, str(value.simple_value)) for event in found for value in event.summary.value]
        return points, [(event.step, event.session_log.status) for event in found if event.HasField("session_log")]

    assert plain(written) == plain(expected)
    assert written[0].file_version == expected[0].file_version


def test_written_step_is_on_disk_without_threads(tmp_path):
    before = set(threading.enumerate())  # threads of earlier tests may end meanwhile
    with MetricLog(tmp_path, 0) as log:
        log.write(1, 1, {"train/loss": 0.5})
        assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "epoch": 1, "train/loss": 0.5}
        assert events(tmp_path / "tensorboard")[1][-1].step == 1
        assert set(threading.enumerate()) <= before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("which", ["metrics.jsonl", "tfevents"])
def test_full_disk_raises_naming_the_file(tmp_path, which):
    full = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    with MetricLog(tmp_path, 0) as log:
        if which == "tfevents":
            log._events._file.close()
            log._events._file = full
        else:
            log._lines.close()
            log._lines = full
        with pytest.raises(TrainingError, match=rf"{which}.*: cannot be written \(No space left on device\)"):
            log.write(1, 1, {"train/loss": 0.5})
    assert full.closed


def test_disk_becoming_full_stops_the_log_only(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")

    def fill():
        with MetricLog(disk, 0) as log:
            for step in range(10_000):
                log.write(step, 1, {"train/loss": 0.5})

    try:
        with pytest.raises(TrainingError, match="No space left on device"):
            fill()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_resumed_log_keeps_records_up_to_its_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "x": "\u2028"}).encode() for step in range(1, 6)]
    mixed = [*DAMAGED, lines[0], *DAMAGED, *lines[1:], b'{"step": 2, "tr']
    path.write_bytes(b"\n".join(mixed))
    with MetricLog(tmp_path, 3):
        pass
    assert path.read_bytes() == b"".join(line + b"\n" for line in lines[:3])


def test_learning_curves_skip_invalid_records(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([*DAMAGED, b'{"step": 1, "train/loss": 0.5}', *DAMAGED]))
    assert read_curves(path) == {"train/loss": ([1], [0.5])}


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard"])
def test_log_is_not_written_through_external_links(tmp_path, name):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (tmp_path / "outside").mkdir()
    for target in (tmp_path / "outside", tmp_path / "absent"):
        (workdir / name).symlink_to(target)
        with pytest.raises(CheckpointError, match=f"{name}: must be inside the workdir, got a link to {target}"):
            MetricLog(workdir, 0)
        (workdir / name).unlink()
    assert os.listdir(tmp_path / "outside") == []
    assert not (tmp_path / "absent").exists()
