"""Grids of models whose result is known: constant, oracle, deaf to high frequencies; seeds of a system; resume."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import soundfile

from emojax.errors import ConfigError
from emojax.interruption import Interruption
from emojax.metrics.paired import bootstrap_gain
from emojax.metrics.scores import ccc
from emojax.model_tests.model import Constant
from emojax.parallel import MeshConfig, make_mesh
from emojax.robustness import RobustnessGridConfig, measure_grid
from emojax.robustness.config import ChannelGridConfig, NoiseGridConfig, RoomGridConfig, parse_robustness
from emojax.robustness.models import OnHost
from emojax.robustness.page import render_grid_page
from emojax.robustness.results import summary_lines
from emojax.robustness.sounds import load_sounds
from emojax.schema import default_tree
from tests.grid_doubles import CONFIG, N, a_model, run, sounds_for, tone_utterances
from tests.model_doubles import BandDouble, Double, in_memory


@pytest.fixture(scope="module")
def utterances():
    return tone_utterances()


@pytest.fixture(scope="module")
def sounds(utterances):
    return sounds_for(CONFIG, utterances)


def without_time(results):
    return json.dumps(dataclasses.asdict(results), sort_keys=True)


@pytest.fixture(scope="module")
def measured(utterances, sounds, tmp_path_factory):
    """An oracle, a constant, and a model of a band, in all conditions."""
    directory = tmp_path_factory.mktemp("grid")
    models = [
        a_model(Double(utterances, utterances.attributes, utterances.emotion), "oracle"),
        a_model(Constant(utterances.info.categories), "constant"),
        a_model(BandDouble(300, 2000), "band"),
    ]
    return directory, models, run(models, utterances, sounds, directory)


def test_a_constant_has_ccc_0_and_no_change_in_every_condition(measured):
    *_, results = measured
    scores = [score for score in results.scores if score.model == "constant"]
    assert len({score.condition for score in scores}) == len(results.conditions) == 15
    for score in scores:
        expected = 0.5 if score.metric == "UAR" else 0.0
        assert (score.score.value, score.change.value, score.change.low, score.change.high) == (expected, 0, 0, 0)
    assert {score.output for score in scores} == {"activation", "valence", "dominance", "emotion"}


def test_an_oracle_has_ccc_1_and_gains_over_it_are_the_differences(measured):
    *_, results = measured
    for condition in results.conditions:
        for output in ("activation", "valence", "dominance", "emotion"):
            oracle = results.score("oracle", condition.name, output)
            assert oracle.score.value == pytest.approx(1.0)
            assert oracle.relative_loss.value == pytest.approx(0.0)
            assert oracle.gain.value is None
            constant = results.score("constant", condition.name, output)
            assert constant.gain.value == pytest.approx(constant.score.value - 1.0)
            assert constant.gain.low <= constant.gain.value <= constant.gain.high
            if output != "emotion":
                assert constant.relative_loss.value is None  # of a score of 0


def test_a_model_of_the_spectrum_loses_by_noise_and_its_loss_is_relative_to_clean(measured):
    *_, results = measured
    clean = results.score("band", "clean", "activation")
    assert clean.score.value > 0.5
    noisy = results.score("band", "babble 0 dB", "activation")  # other talkers have other tones in its band
    assert noisy.change.high < 0
    assert noisy.change.value == pytest.approx(noisy.score.value - clean.score.value)
    assert noisy.relative_loss.value == pytest.approx(1 - noisy.score.value / clean.score.value)
    assert noisy.relative_loss.low < noisy.relative_loss.value < noisy.relative_loss.high
    assert results.score("band", "babble 10 dB", "activation").score.value > noisy.score.value
    assert results.score("band", "clean", "valence") is None
    levels = [results.at_level("band", "activation", level).score.value for level in (None, 10.0, 0.0)]
    assert levels[0] == clean.score.value
    kinds = [results.score("band", f"{kind} 0 dB", "activation") for kind in CONFIG.noise.kinds]
    assert levels[2] == pytest.approx(np.mean([score.score.value for score in kinds]))
    assert any("band" in line and f"{levels[0]:.3f}" in line for line in summary_lines(results))


def test_equal_seeds_give_equal_numbers_on_one_and_eight_devices_in_any_order(measured, utterances, sounds, tmp_path):
    _, models, results = measured
    again = run(models[2:], utterances, sounds, tmp_path / "again")
    assert run(models[2:], utterances, sounds, tmp_path / "again") == again
    eight = run(models[2:], utterances, sounds, tmp_path / "eight", devices=8)
    order = np.random.default_rng(1).permutation(N)
    shuffled = in_memory(
        utterances.info,
        [utterances.read([row])[0] for row in order],
        utterances.attributes[order],
        utterances.emotion[order],
        [utterances.speakers[row] for row in order],
    )
    mixed = run(models[2:], shuffled, sounds, tmp_path / "mixed")
    other = run(models[2:], utterances, sounds, tmp_path / "other", dataclasses.replace(CONFIG, seed=1))
    for condition in results.conditions:
        first = results.score("band", condition.name, "activation").score.value
        assert again.score("band", condition.name, "activation").score.value == first
        for same in (eight, mixed):
            assert same.score("band", condition.name, "activation").score.value == pytest.approx(first, abs=1e-5)
        if condition.noise:
            assert other.score("band", condition.name, "activation").score.value != first


def test_a_model_deaf_to_high_frequencies_is_invariant_to_what_changes_them_alone(utterances, tmp_path):
    for number in range(3):
        time = np.arange(16_000) / 16_000
        (tmp_path / "noise").mkdir(exist_ok=True)
        tone = 0.5 * np.sin(2 * np.pi * (5500 + 500 * number) * time)
        soundfile.write(tmp_path / "noise" / f"n{number}.wav", tone, 16_000)
    config = RobustnessGridConfig(
        noise=NoiseGridConfig(("white", "environment"), (10.0, 0.0), folder=str(tmp_path / "noise"), seconds=0.1),
        rooms=RoomGridConfig(count=0),
        channels=ChannelGridConfig(False, ()),
        all_files=True,
        bootstrap_resamples=100,
    )
    models = [a_model(BandDouble(300, 2000), "deaf"), a_model(BandDouble(300, 7900), "hears")]
    results = run(models, utterances, load_sounds(config, None), tmp_path / "grid", config)
    for condition, largest in (("environment-10-dB", 1e-3), ("environment-0-dB", 1e-3), ("white-0-dB", np.inf)):
        changes = {}
        for name in ("deaf", "hears"):
            outputs = [
                np.load(tmp_path / "grid" / "test" / "cells" / name / f"{each}.npz")["attributes"][:, 0]
                for each in ("clean", condition)
            ]
            changes[name] = np.abs(outputs[1] - outputs[0]).max()
        assert changes["deaf"] < largest
        assert changes["hears"] > 0.05
    assert changes["deaf"] > 0.05  # by white noise
    score = results.score("deaf", "environment 0 dB", "activation")
    assert score.change.value == pytest.approx(0.0, abs=1e-3)


def test_finished_cells_are_not_computed_again_and_interrupted_work_continues(utterances, sounds, tmp_path):
    calls = []

    class Counting(Constant):
        def __call__(self, clips):
            calls.append(len(clips))
            if len(calls) == limit:
                interruption.received = 15
            return super().__call__(clips)

    models = [OnHost(Counting(()), "counting", "1")]
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    interruption, limit = Interruption(), 8
    assert measure_grid(models, utterances, sounds, CONFIG, mesh, tmp_path, interruption) is None
    finished = len(list((tmp_path / "test" / "cells" / "counting").glob("*.npz")))
    assert 0 < finished < 13
    first, limit = sum(calls), -1
    whole = measure_grid(models, utterances, sounds, CONFIG, mesh, tmp_path, Interruption())
    assert sum(calls) - first == (13 - finished) * N
    calls.clear()
    again = measure_grid(models, utterances, sounds, CONFIG, mesh, tmp_path, Interruption())
    assert not calls
    assert without_time(again) == without_time(whole)
    (tmp_path / "test" / "cells" / "counting" / "clean.npz").write_bytes(b"damaged")
    two = [*models, OnHost(Constant(()), "constant", "constant")]
    measure_grid(two, utterances, sounds, CONFIG, mesh, tmp_path, Interruption())
    assert sum(calls) == N  # the damaged cell
    calls.clear()
    measure_grid([OnHost(Counting(()), "counting", "2")], utterances, sounds, CONFIG, mesh, tmp_path, Interruption())
    assert sum(calls) == 13 * N  # another model of this name


def test_conditions_that_cannot_be_applied_are_reported_and_not_scored(utterances, tmp_path, monkeypatch):
    from emojax.robustness import conditions

    monkeypatch.setattr(conditions, "missing_codec", lambda codec: "no such codec here")
    clips = utterances.read(range(N))
    alone = in_memory(utterances.info, clips, utterances.attributes, utterances.emotion, ["one"] * N)
    results = run([a_model(Constant(()), "constant")], alone, sounds_for(CONFIG, alone), tmp_path)
    missing = {condition.name: condition.missing for condition in results.conditions if condition.missing}
    assert missing == {
        "babble 10 dB": "the corpus has one speaker",
        "babble 0 dB": "the corpus has one speaker",
        "GSM 06.10, 13 kbit/s": "no such codec here",
    }
    assert results.units == f"{N} utterances"
    page = render_grid_page([results])
    assert "babble 0 dB: not measured, the corpus has one speaker" in page


def test_babble_without_speakers_is_noted(utterances, sounds, tmp_path):
    clips = utterances.read(range(N))
    unknown = in_memory(utterances.info, clips, utterances.attributes)
    config = dataclasses.replace(CONFIG, noise=dataclasses.replace(CONFIG.noise, kinds=("babble",)))
    results = run([a_model(Constant(()), "constant")], unknown, sounds_for(config, unknown), tmp_path, config)
    assert "babble 0 dB: speakers are unknown: babble of other clips" in render_grid_page([results])


def test_silent_clips_are_counted(utterances, sounds, tmp_path):
    clips = list(utterances.read(range(N)))
    clips[4] = dataclasses.replace(clips[4], waveform=np.zeros_like(clips[4].waveform))
    some = in_memory(utterances.info, clips, utterances.attributes, utterances.emotion, utterances.speakers)
    config = dataclasses.replace(CONFIG, channels=ChannelGridConfig(False, ()))
    results = run([a_model(Constant(()), "constant")], some, sounds, tmp_path, config)
    noisy = {condition.name for condition in results.conditions if condition.noise}
    assert {name for name, counts in results.counts.items() if counts.no_snr == 1} == noisy
    assert "1 clip without noise" in render_grid_page([results])


def test_the_config_file_has_the_defaults_and_rules_are_checked():
    from configs import robustness

    assert parse_robustness(robustness.get_config().to_dict()) == RobustnessGridConfig()
    tree = default_tree(RobustnessGridConfig)
    with pytest.raises(ConfigError, match=r"noise\.snrs_db must not repeat"):
        parse_robustness(tree | {"noise": tree["noise"] | {"snrs_db": [5.0, 5.0]}})
    with pytest.raises(ConfigError, match=r"config\.utterances must be >= 2"):
        parse_robustness(tree | {"utterances": 1})


def test_scores_are_those_of_the_metrics(measured, utterances):
    directory, _, results = measured
    with np.load(directory / "test" / "cells" / "band" / "white-0-dB.npz") as cell:
        noisy = cell["attributes"]
    with np.load(directory / "test" / "cells" / "band" / "clean.npz") as cell:
        clean = cell["attributes"]
    labels = utterances.attributes
    score = results.score("band", "white 0 dB", "activation")
    assert score.score.value == pytest.approx(ccc(noisy[:, :1], labels[:, :1])[0])
    only = np.where([True, False, False], labels, np.nan)
    expected = bootstrap_gain([np.nan_to_num(clean)], [np.nan_to_num(noisy)], only, utterances.speakers, 100)
    assert score.change.low == pytest.approx(expected["activation"]["low"])
    assert score.n == N
    assert results.units == "4 speakers"


def with_seed(double, name, seed):
    model = a_model(double, name)
    model.configuration, model.seed = "one config", seed
    return model


def test_runs_that_differ_in_seeds_are_one_system_whose_scores_are_means(utterances, sounds, tmp_path):
    config = dataclasses.replace(
        CONFIG,
        noise=dataclasses.replace(CONFIG.noise, kinds=("white", "music")),
        rooms=RoomGridConfig(count=0),
        channels=ChannelGridConfig(False, ()),
        reference="band",
    )
    models = [
        a_model(Constant(()), "constant"),
        with_seed(BandDouble(300, 2000), "band_seed0", 0),
        with_seed(BandDouble(300, 7900), "band_seed1", 1),
    ]
    together = run(models, utterances, sounds, tmp_path, config)
    assert (together.models, together.reference) == (("constant", "band"), "band")
    assert together.runs == {"constant": ("constant",), "band": ("band_seed0", "band_seed1")}
    models[2].seed = 0  # a copy of a run
    apart = run(models, utterances, sounds, tmp_path, dataclasses.replace(config, reference="constant"))
    assert apart.models == ("constant", "band_seed0", "band_seed1")
    for name in ("clean", "white 0 dB", "music 10 dB", "mean of noises 0 dB"):
        runs = [apart.score(f"band_seed{seed}", name, "activation") for seed in (0, 1)]
        found = together.score("band", name, "activation")
        for quantity in ("score", "change"):
            values = [getattr(each, quantity).value for each in runs]
            assert getattr(found, quantity).value == pytest.approx(np.mean(values))
        assert found.gain.value is None
        assert together.score("constant", name, "activation").gain.value == pytest.approx(-found.score.value)
    mean = together.score("band", "mean of noises 0 dB", "activation")
    kinds = [together.score("band", f"{kind} 0 dB", "activation") for kind in ("white", "music")]
    for quantity in ("score", "change"):
        assert getattr(mean, quantity).value == pytest.approx(
            np.mean([getattr(kind, quantity).value for kind in kinds])
        )
    assert mean.change.low <= mean.change.value <= mean.change.high
    page = render_grid_page([together])
    assert "band: mean of 2 runs" in page
    assert "constant − band" in page
    with pytest.raises(ConfigError, match=r"config\.reference must be one of constant, band_seed0, got 'other'"):
        run(models[:2], utterances, sounds, tmp_path, dataclasses.replace(config, reference="other"))
