"""Grids of models whose result is known: constant, oracle, deaf to high frequencies; resume, transcripts, sounds."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import soundfile

from emojax.errors import AudioError, ConfigError
from emojax.interruption import Interruption
from emojax.metrics.bootstrap import bootstrap_gain, bootstrap_uar_gain
from emojax.metrics.scores import ccc
from emojax.model_tests import Clip
from emojax.parallel import MeshConfig, make_mesh
from emojax.robustness import RobustnessGridConfig, measure, measure_grid
from emojax.robustness.config import ChannelGridConfig, NoiseGridConfig, RoomGridConfig, parse_robustness
from emojax.robustness.models import Constant, OnHost
from emojax.robustness.page import render_grid_page
from emojax.robustness.results import GridResults, summary_lines
from emojax.robustness.sounds import load_sounds, talkers_of
from emojax.robustness.transcripts import ConditionTranscripts
from emojax.schema import default_tree
from tests.model_doubles import BandDouble, Double, in_memory, toy_info

N = 24
CONFIG = RobustnessGridConfig(
    noise=NoiseGridConfig(snrs_db=(10.0, 0.0), files=2, seconds=1.0),
    rooms=RoomGridConfig(count=1, seconds=0.3, noise_snrs_db=(0.0,)),
    channels=ChannelGridConfig(codecs=("gsm",)),
    bootstrap_resamples=100,
)


@pytest.fixture(scope="module")
def utterances():
    """Harmonic tones with a pause, whose spectrum follows activation, of four speakers."""
    random = np.random.default_rng(0)
    labels = random.random((N, 3))
    clips = []
    for row in range(N):
        time = np.arange(4800 + 200 * row) / 16_000
        low, high = np.sin(2 * np.pi * 500 * time), np.sin(2 * np.pi * 1500 * time)
        wave = (1 - labels[row, 0]) * low + labels[row, 0] * high + 0.01 * random.standard_normal(len(time))
        wave[2000:3000] = 0
        clips.append(Clip(f"u{row}", (0.2 * wave).astype(np.float32), f"word{row}"))
    emotion = (labels[:, 0] > 0.5).astype(int)
    speakers = [f"s{row % 4}" for row in range(N)]
    return in_memory(toy_info(("calm", "excited")), clips, labels, emotion, speakers)


@pytest.fixture(scope="module")
def sounds(utterances):
    return sounds_for(CONFIG, utterances)


def sounds_for(config, utterances):
    clips = utterances.read(range(N))
    return load_sounds(config, talkers_of([c.waveform for c in clips], utterances.ids, utterances.speakers))


def a_model(double, name):
    return OnHost(double, name, name)


def run(models, utterances, sounds, directory, config=CONFIG, devices=1) -> GridResults:
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    return measure_grid(models, utterances, sounds, config, mesh, directory, Interruption())


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
    assert len({score.condition for score in scores}) == len(results.conditions) == 13
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
    levels = [results.at_level("band", "activation", level) for level in (None, 10.0, 0.0)]
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


@dataclasses.dataclass
class Reader(Constant):
    """A constant that keeps the transcripts it gets."""

    takes_transcripts = True

    def __init__(self):
        super().__init__(())
        self.seen = {}

    def __call__(self, clips):
        self.seen |= {clip.id: clip.transcript for clip in clips}
        return super().__call__(clips)


class FakeGridRecognizer:
    """Texts that follow from the loudness of the clips."""

    calls = 0

    def __init__(self, config):
        self.description = {"checkpoint": config.checkpoint}

    def __call__(self, clips):
        type(self).calls += len(clips)
        return [f"level {np.abs(clip).sum():.1f}" for clip in clips]


def test_models_that_read_words_get_transcripts_of_the_degraded_audio(utterances, sounds, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "GridRecognizer", FakeGridRecognizer)
    FakeGridRecognizer.calls = 0
    reader = Reader()
    config = dataclasses.replace(CONFIG, noise=dataclasses.replace(CONFIG.noise, kinds=("white",)))
    results = run([a_model(reader, "reader")], utterances, sounds, tmp_path, config)
    assert results.transcripts == {"reader": "recognised from the degraded audio"}
    conditions = [condition.name for condition in results.conditions]
    assert FakeGridRecognizer.calls == len(conditions) * N
    assert reader.seen["u3"].startswith("level ")
    assert results.counts["clean"].word_error_rate == 3.0  # e.g. level 123.4, in place of one word
    texts = {
        path.stem: [json.loads(line)["text"] for line in path.read_text().splitlines()[1:]]
        for path in (tmp_path / "test" / "transcripts").glob("*.jsonl")
    }
    assert len(texts) == len(conditions)
    assert len({tuple(each) for each in texts.values()}) == len(conditions)  # no condition has those of another
    other = Reader()
    run([a_model(reader, "reader"), a_model(other, "other")], utterances, sounds, tmp_path, config)
    assert FakeGridRecognizer.calls == len(conditions) * N  # kept for the second model
    assert other.seen == reader.seen


def test_transcripts_of_the_corpus_are_used_if_asked_for_and_labelled(utterances, sounds, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "GridRecognizer", None)
    reader = Reader()
    config = dataclasses.replace(CONFIG, transcripts="corpus")
    results = run([a_model(reader, "reader")], utterances, sounds, tmp_path, config)
    assert reader.seen["u3"] == "word3"
    assert results.shown_name("reader") == "reader (corpus transcripts)"
    page = render_grid_page([results])
    assert "no condition affects" in page
    assert "reader (corpus transcripts)" in page


def test_transcripts_cut_off_by_a_kill_are_recognised_again(tmp_path):
    calls = []

    def recognise(clips):
        calls.append(len(clips))
        return [f"text {len(clip)}" for clip in clips]

    path, clips = tmp_path / "folder" / "x.jsonl", [np.zeros(n, np.float32) for n in (1, 2, 3)]
    ConditionTranscripts(path, "key", recognise).texts(["a", "b", "c"], lambda: clips)
    path.write_bytes(path.read_bytes()[:-5])
    found = ConditionTranscripts(path, "key", recognise)
    assert found.texts(["c", "a", "b"], lambda: [clips[2], *clips[:2]]) == ["text 3", "text 1", "text 2"]
    assert calls == [3, 1]
    assert ConditionTranscripts(path, "key", recognise).texts(["a"], lambda: pytest.fail("kept")) == ["text 1"]
    ConditionTranscripts(path, "other", recognise).texts(["a"], lambda: clips[:1])
    assert calls == [3, 1, 1]
    assert found.word_error_rate(["a", "b"], ["text 1", ""]) == 0.0
    assert found.word_error_rate(["a"], [""]) is None


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


def write_sounds(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = np.random.default_rng(number).standard_normal(800) * np.exp(-np.arange(800) / 100)
        soundfile.write(path, 0.1 * wave, 16_000)


KINDS = {"environment": "folder", "music": "music_folder"}


def with_folders(**folders):
    noise = {name: str(path) for name, path in folders.items() if name != "rooms"}
    noise["kinds"] = tuple(kind for kind, name in KINDS.items() if name in noise)
    rooms = RoomGridConfig(folder=str(folders["rooms"])) if "rooms" in folders else RoomGridConfig(count=0)
    return RobustnessGridConfig(noise=NoiseGridConfig(**noise), rooms=rooms, all_files=True)


def test_layouts_of_musan_and_rirs_noises_are_known(tmp_path):
    musan, rirs = tmp_path / "musan", tmp_path / "RIRS_NOISES"
    write_sounds(musan, "noise/free-sound/n0.wav", "noise/n1.wav", "music/fma/m0.wav", "speech/us-gov/s0.wav")
    real = "real_rirs_isotropic_noises"
    write_sounds(rirs, "simulated_rirs/smallroom/Room001/Room001-00001.wav", f"{real}/RVB2014_type1_rir_small_1.wav")
    write_sounds(rirs, f"{real}/RVB2014_type1_noise_small_1.wav", "pointsource_noises/noise-free-sound-0000.wav")
    write_sounds(rirs, f"{real}/air_type1_air_binaural_booth_0_1.wav")
    found = load_sounds(with_folders(folder=musan, music_folder=musan, rooms=rirs), None)
    assert set(found.noises["environment"].names) == {"noise/free-sound/n0.wav", "noise/n1.wav"}
    assert found.noises["music"].names == ("music/fma/m0.wav",)
    assert len(found.rooms.names) == 3
    assert not any("noise" in name.rpartition("/")[2] for name in found.rooms.names)
    assert list(found.rt60) == sorted(found.rt60)
    noises = load_sounds(with_folders(folder=rirs), None).noises["environment"]
    assert len(noises.names) == 2
    assert all("noise" in name.rpartition("/")[2] for name in noises.names)


def test_wrong_folders_are_one_error_that_names_them(tmp_path):
    with pytest.raises(ConfigError, match=r"none: no such folder"):
        load_sounds(with_folders(folder=tmp_path / "none"), None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: has no audio files \(\.wav"):
        load_sounds(with_folders(rooms=tmp_path / "empty"), None)
    write_sounds(tmp_path / "some", "a.wav", "b.wav")
    (tmp_path / "some" / "c.wav").write_bytes(b"RIFF of nothing")
    with pytest.raises(AudioError, match=r"some/c\.wav"):
        load_sounds(with_folders(music_folder=tmp_path / "some"), None)
    write_sounds(tmp_path / "few", "a.wav")  # used in training, by the hash of its name
    few = dataclasses.replace(with_folders(folder=tmp_path / "few"), all_files=False)
    with pytest.raises(ConfigError, match=r"for evaluation.*all_files=True"):
        load_sounds(few, None)
    assert load_sounds(dataclasses.replace(few, all_files=True), None).noises["environment"].names == ("a.wav",)


def test_bundled_rooms_have_the_reverberation_times_of_their_table():
    import csv

    from emojax.robustness import sounds

    found = load_sounds(RobustnessGridConfig(noise=NoiseGridConfig(kinds=())), None)
    with open(sounds.__file__.replace("robustness/sounds.py", "sounds/rooms.csv")) as file:
        table = {row["file"].removeprefix("rooms/"): float(row["rt60_t20_s"]) for row in csv.DictReader(file)}
    assert dict(zip(found.rooms.names, found.rt60, strict=True)) == pytest.approx(table, rel=0.08)


def test_the_config_file_has_the_defaults_and_rules_are_checked():
    from configs import robustness

    assert parse_robustness(robustness.get_config().to_dict()) == RobustnessGridConfig()
    tree = default_tree(RobustnessGridConfig)
    with pytest.raises(ConfigError, match=r"noise\.snrs_db must not repeat"):
        parse_robustness(tree | {"noise": tree["noise"] | {"snrs_db": [5.0, 5.0]}})
    with pytest.raises(ConfigError, match=r"config\.utterances must be >= 2"):
        parse_robustness(tree | {"utterances": 1})


def test_paired_differences_of_uar_equal_explicit_resampling():
    random = np.random.default_rng(0)
    labels = random.integers(3, size=90)
    speakers = [f"s{n % 6}" for n in range(90)]
    first, second = (np.where(random.random(90) < share, labels, random.integers(3, size=90)) for share in (0.3, 0.6))
    labels[::10] = -1

    def uar(rows, predictions):
        rows = rows[labels[rows] >= 0]
        return np.mean([(predictions[rows][labels[rows] == c] == c).mean() for c in range(3)])

    gains = []
    for _ in range(2000):
        drawn = np.concatenate([np.arange(90)[np.arange(90) % 6 == s] for s in random.integers(6, size=6)])
        gains.append(uar(drawn, second) - uar(drawn, first))
    found = bootstrap_uar_gain(first, second, labels, 3, speakers, 2000)
    everything = np.arange(90)
    assert found["before"] == pytest.approx(uar(everything, first))
    assert found["gain"] == pytest.approx(uar(everything, second) - uar(everything, first))
    assert found["relative"] == pytest.approx(uar(everything, second) / uar(everything, first) - 1)
    width = np.ptp(np.percentile(gains, [2.5, 97.5]))
    np.testing.assert_allclose([found["low"], found["high"]], np.percentile(gains, [2.5, 97.5]), atol=0.08 * width)


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
