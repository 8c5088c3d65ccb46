"""8-bit weights: how far they are from the trained ones, and workdirs made of them."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest

import emojax
from configs import student_s
from emojax.config import parse_experiment
from emojax.errors import CheckpointError, ConfigError
from emojax.reporting import evaluate_workdir
from emojax.training import train_workdir
from emojax.workdir import QUANTISED
from emojax.workdir.quantised import quantise
from emojax.workdir.restore import quantise_workdir

pytestmark = pytest.mark.usefixtures("one_device_in_module")


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
    hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=6), elements=st.floats(-100, 100, width=32)
    )
)
def test_a_value_is_off_by_at_most_half_a_step_of_its_channel(values):
    integers, scale = quantise(values)
    assert integers.dtype == np.int8
    assert scale.shape == values.shape[-1:]
    error = np.abs(integers * scale.astype(np.float64) - values)
    assert (error <= 0.5001 * scale + 1e-12).all()


@pytest.fixture(scope="module")
def workdir(mini_data_dir, tmp_path_factory):
    config = student_s.get_config()
    config.corpus.update({"name": "mini_corpus", "data_dir": str(mini_data_dir)})
    config.data.update({"batch_size": 16, "bucket_seconds": (2.5,), "workers": 0})
    config.training.epochs = 1
    config.evaluation.bootstrap_resamples = 10
    directory = tmp_path_factory.mktemp("runs") / "student"
    train_workdir(parse_experiment(config.to_dict()), directory)
    return directory


def test_the_small_workdir_is_evaluated_and_loaded_as_any_other(workdir, tmp_path):
    small = tmp_path / "small"
    path = quantise_workdir(workdir, small)
    assert path.stat().st_size < 220_000  # 187 thousand parameters
    whole, quantised = (evaluate_workdir(folder)["test"]["ccc"] for folder in (workdir, small))
    for name in whole:
        assert quantised[name]["value"] == pytest.approx(whole[name]["value"], abs=0.05)
    clip = np.random.default_rng(0).normal(size=16_000).astype(np.float32) * 0.1
    expected = emojax.load(workdir).predict(clip, 16_000).attributes
    found = emojax.load(small).predict(clip, 16_000).attributes
    assert found == pytest.approx(expected, abs=0.2)
    assert found != expected
    assert emojax.Stream(emojax.load(small))(clip).attributes == pytest.approx(found, abs=1e-3)


def test_models_that_cannot_be_quantised_or_read_are_errors(workdir, tmp_path):
    small = tmp_path / "small"
    quantise_workdir(workdir, small)
    with pytest.raises(ConfigError, match="a new or empty folder"):
        quantise_workdir(workdir, small)
    with pytest.raises(CheckpointError, match="is quantised already"):
        quantise_workdir(small, tmp_path / "again")
    (small / QUANTISED).write_bytes((small / QUANTISED).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        emojax.load(small)
