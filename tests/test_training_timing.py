"""Few programs are compiled; times of steps are separated by cause; steps can be traced."""

import json

import pytest

from emojax.config import parse_experiment
from emojax.training import train_workdir
from emojax.training.experiment import Experiment
from emojax.training.timing import StepTimer
from tests.test_training_distillation import tree


class Clock:
    """A clock that is moved by the test, so that a busy machine changes nothing."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Slow:
    """Something that takes the devices some time."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds

    def block_until_ready(self):
        self.clock.now += self.seconds
        return self


def test_waiting_for_input_and_the_devices_work_are_separated():
    clock = Clock()
    with StepTimer(clock) as timer:
        assert timer.means() == {}
        for _ in range(3):
            clock.now += 0.06
            timer.dispatched(Slow(clock, 0.02), 0.06).result()
        assert timer.means() == pytest.approx(
            {"seconds/step": 0.08, "seconds/input_wait": 0.06, "seconds/device": 0.02}
        )
        clock.now += 0.1
        timer.exclude(0.1)
        timer.dispatched(Slow(clock, 0.01), 0.0).result()
        assert timer.means()["seconds/step"] == pytest.approx(0.01)


def test_a_run_compiles_its_step_once_per_length_and_tells_its_times(mini_data_dir, tmp_path, monkeypatch, one_device):
    steps = []

    def kept(*arguments):
        steps.append(original(*arguments))
        return steps[-1]

    original = Experiment.train_step
    monkeypatch.setattr(Experiment, "train_step", kept)
    config = tree(mini_data_dir)
    config.corpus.validation_split = "dev"
    config.data.update({"batch_size": 8, "bucket_seconds": (1.0, 1.5, 2.5)})
    config.training.update({"epochs": 3, "profile_steps": 2})
    train_workdir(parse_experiment(config.to_dict()), tmp_path / "run")
    assert 1 <= steps[0]._cache_size() <= 3
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    times = [line for line in lines if "seconds/step" in line]
    assert len(times) > 5
    for line in times:
        assert 0 < line["seconds/device"] <= line["seconds/step"] * 1.5 + 0.05
        assert line["seconds/input_wait"] <= line["seconds/step"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["compiled_programs"] > 0
    assert summary["compile_seconds"] > 0
