"""Noises and rooms of the robustness grid: layouts of known folders, bundled rooms, mistakes."""

import csv
import dataclasses

import numpy as np
import pytest
import soundfile

from emojax.errors import AudioError, ConfigError
from emojax.robustness import RobustnessGridConfig, sounds
from emojax.robustness.config import NoiseGridConfig, RoomGridConfig
from emojax.robustness.sounds import load_sounds


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
    found = load_sounds(RobustnessGridConfig(noise=NoiseGridConfig(kinds=()), all_files=True), None)
    with open(sounds.__file__.replace("robustness/sounds.py", "sounds/rooms.csv")) as file:
        table = {row["file"].removeprefix("rooms/"): float(row["rt60_t20_s"]) for row in csv.DictReader(file)}
    assert dict(zip(found.rooms.names, found.rt60, strict=True)) == pytest.approx(table, rel=0.08)
