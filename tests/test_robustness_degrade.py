"""Degradation of batches: ratios, invariance to batch and device, silent clips, short noises, long rooms, clipping."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax.audio.clip_degradations import with_noise
from emojax.audio.degradations import band_pass, speech_activity
from emojax.audio.music import music_like
from emojax.parallel import MeshConfig, make_mesh
from emojax.robustness.conditions import TELEPHONE, Condition
from emojax.robustness.degrade import ClipBatch, Degrader, draw_talkers
from emojax.robustness.sounds import GridSounds, bank_of, reverberation_time, talkers_of

SAMPLES = 6000
LENGTHS = np.array([6000, 4100, 2500, 5200, 3300, 6000, 1700, 4800], np.int32)


def speech(seed=0):
    """Noise in bursts with pauses, as rows of different lengths."""
    random = np.random.default_rng(seed)
    bursts = np.repeat(random.random((8, SAMPLES // 500)) > 0.4, 500, axis=1) | (np.arange(SAMPLES) < 500)
    waveform = (0.1 * random.standard_normal((8, SAMPLES)) * bursts).astype(np.float32)
    return np.where(np.arange(SAMPLES) < LENGTHS[:, None], waveform, 0).astype(np.float32)


def a_batch(rows=range(8), samples=SAMPLES):
    rows = list(rows)
    waveform = np.zeros((len(rows), samples), np.float32)
    waveform[:, :SAMPLES] = speech()[rows]
    return ClipBatch(waveform, LENGTHS[rows], tuple(f"c{row}" for row in rows), tuple(f"s{row // 2}" for row in rows))


def activity(batch):
    return np.asarray(speech_activity(jnp.asarray(batch.waveform), jnp.asarray(batch.num_samples)))


def room(samples=3000, seed=1):
    random = np.random.default_rng(seed)
    response = random.standard_normal(samples) * np.exp(-np.arange(samples) / (samples / 6))
    response[20] = 4.0
    return response.astype(np.float32)


@pytest.fixture(scope="module")
def sounds():
    random = np.random.default_rng(5)
    noises = bank_of([random.standard_normal(n).astype(np.float32) for n in (700, 9000)], ["short", "long"])
    talkers = talkers_of(list(speech(7)), [f"c{row}" for row in range(8)], [f"s{row // 2}" for row in range(8)])
    return GridSounds({"environment": noises, "music": noises}, talkers, bank_of([room()], ["room"]), (0.1,))


def mesh_of(devices):
    return make_mesh(MeshConfig(), jax.devices()[:devices])


@pytest.fixture(scope="module")
def degrader(sounds):
    return Degrader(sounds, mesh_of(1), seed=3)


NOISES = [Condition(kind, kind, kind, 5.0) for kind in ("white", "environment", "babble", "music")]
CONDITIONS = [
    *NOISES,
    Condition("room", "rooms", room=0, rt60=0.1),
    Condition("both", "noise and room", "environment", 5.0, 0, 0.1),
    Condition("telephone", "channels", channel=TELEPHONE),
    Condition("gsm", "channels", channel="gsm"),
]


@pytest.mark.parametrize("condition", NOISES, ids=lambda c: c.name)
def test_noise_has_the_ratio_over_active_speech(degrader, condition):
    batch = a_batch()
    found = degrader(condition, batch)
    active = activity(batch)
    noise = np.asarray(found.batch.waveform) - batch.waveform
    power = [np.square(rows).sum(axis=1, where=active) for rows in (batch.waveform, noise)]
    ratio = power[0] / power[1]
    np.testing.assert_allclose(10 * np.log10(ratio), 5.0, atol=0.01)
    assert not found.no_snr.any()
    assert not np.where(np.arange(SAMPLES) < LENGTHS[:, None], 0, np.asarray(found.batch.waveform)).any()


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: c.name)
def test_a_clip_is_degraded_equally_in_any_batch_and_on_any_number_of_devices(sounds, degrader, condition):
    whole = degrader(condition, a_batch()).batch.clips()
    again = Degrader(sounds, mesh_of(1), seed=3)(condition, a_batch()).batch.clips()
    for first, second in zip(whole, again, strict=True):
        np.testing.assert_array_equal(first, second)
    order = [5, 2, 7, 0]
    for other, rows in (
        (Degrader(sounds, mesh_of(8), seed=3)(condition, a_batch()), range(8)),
        (degrader(condition, a_batch(order)), order),
        (degrader(condition, a_batch(order, samples=9000)), order),
    ):
        for clip, row in zip(other.batch.clips(), rows, strict=True):
            # Transforms of another length, and reductions in another order, differ by rounding alone.
            np.testing.assert_allclose(clip, whole[row], atol=2e-6 if condition.channel != "gsm" else 2e-3)


@pytest.mark.parametrize("condition", NOISES, ids=lambda c: c.name)
def test_another_seed_or_clip_draws_other_noise_and_another_level_the_same(sounds, degrader, condition):
    batch = a_batch()
    found = np.asarray(degrader(condition, batch).batch.waveform) - batch.waveform
    other = np.asarray(Degrader(sounds, mesh_of(1), seed=4)(condition, batch).batch.waveform) - batch.waveform
    assert np.abs(found - other).max() > 0.01
    quieter = np.asarray(degrader(dataclasses.replace(condition, snr_db=25.0), batch).batch.waveform) - batch.waveform
    np.testing.assert_allclose(10 * quieter, found, atol=2e-6)
    same = np.repeat(batch.waveform[:1], 2, axis=0)
    pair = ClipBatch(same, np.repeat(LENGTHS[:1], 2), ("c0", "c1"), ("s0", "s3"))
    first, second = degrader(condition, pair).batch.clips()
    assert np.abs(first - second).max() > 0.01


def test_silent_clips_and_silent_noise_have_no_ratio_and_no_noise_is_added(sounds):
    batch = a_batch()
    batch.waveform[2] = 0.0
    for condition in NOISES:
        found = Degrader(sounds, mesh_of(1))(condition, batch)
        assert found.no_snr.tolist() == [row == 2 for row in range(8)]
        assert not np.asarray(found.batch.waveform[2]).any()
    silence = GridSounds({"environment": bank_of([np.zeros(100, np.float32)], ["silence"])})
    found = Degrader(silence, mesh_of(1))(NOISES[1], a_batch())
    assert found.no_snr.all()
    np.testing.assert_array_equal(found.batch.waveform, a_batch().waveform)
    in_room = Degrader(sounds, mesh_of(1))(CONDITIONS[4], batch)
    assert not in_room.no_snr.any()
    assert not np.asarray(in_room.batch.waveform[2]).any()


def test_noises_shorter_than_a_clip_are_repeated_from_a_random_offset():
    ramp = np.linspace(-1, 1, 333, dtype=np.float32)
    degrade = Degrader(GridSounds({"environment": bank_of([ramp], ["ramp"])}), mesh_of(1))
    batch = a_batch()
    noise = np.asarray(degrade(NOISES[1], batch).batch.waveform) - batch.waveform
    starts = set()
    for row in range(8):
        np.testing.assert_allclose(noise[row, 333 : LENGTHS[row]], noise[row, : LENGTHS[row] - 333], atol=1e-6)
        starts.add(int(noise[row, :333].argmin()))
    assert len(starts) > 3


def test_a_room_longer_than_the_clip_keeps_its_length_energy_and_timing():
    long_room = bank_of([room(20_000)], ["long"])
    degrade = Degrader(GridSounds({}, rooms=long_room, rt60=(1.0,)), mesh_of(1))
    batch = a_batch()
    found = degrade(CONDITIONS[4], batch)
    for clip, dry, length in zip(found.batch.clips(), batch.waveform, LENGTHS, strict=True):
        assert len(clip) == length
        np.testing.assert_allclose(np.square(clip).sum(), np.square(dry).sum(), rtol=1e-4)
    both = np.fft.rfft(found.batch.clips()[0], 12_000) * np.fft.rfft(batch.waveform[0], 12_000).conj()
    assert np.abs(np.fft.irfft(both)).argmax() == 0  # the direct sound is not delayed


@pytest.mark.parametrize("full_scale", ["scale", "clip"])
def test_clips_beyond_full_scale_are_scaled_or_clipped(sounds, full_scale):
    batch = a_batch()
    batch.waveform[:4] *= 1 / np.abs(batch.waveform[:4]).max(axis=1, keepdims=True)
    condition = Condition("loud", "white", "white", -10.0)
    found = Degrader(sounds, mesh_of(1), full_scale=full_scale)(condition, batch)
    free = with_noise(lambda samples, random: np.ones(samples, np.float32), -10.0, "x")  # what mixing may exceed
    assert max(np.abs(free([batch.waveform[0]], ["c0"], 0)[0])) > 1
    rows = np.asarray(found.batch.waveform)
    assert found.beyond.tolist()[:4] == [True] * 4
    assert np.abs(rows).max() <= 1.0
    at_limit = (np.abs(rows[0]) >= 1.0 - 1e-6).sum()
    assert at_limit == 1 if full_scale == "scale" else at_limit > 10
    if full_scale == "scale":  # the ratio is kept
        active = activity(batch)
        scale = np.abs(np.vdot(rows[0], batch.waveform[0])) / np.vdot(batch.waveform[0], batch.waveform[0])
        noise = rows[0] / scale - batch.waveform[0]
        power = np.square(batch.waveform[0][active[0]]).mean() / np.square(noise[active[0]]).mean()
        assert 10 * np.log10(power) == pytest.approx(-10.0, abs=1.5)  # the scale is estimated


def test_babble_has_4_to_7_other_talkers():
    speakers = [f"s{n % 12}" for n in range(36)]
    clips = [np.ones(100, np.float32)] * 36
    talkers = talkers_of(clips, [f"t{n}" for n in range(36)], speakers)
    counts = set()
    for seed in range(60):
        drawn = draw_talkers(talkers, "x", "s3", np.random.default_rng(seed))
        names = [talkers.speakers[row] for row in drawn]
        counts.add(len(drawn))
        assert len(set(names)) == len(names)
        assert "s3" not in names
    assert counts == {4, 5, 6, 7}
    assert (talkers.missing, talkers.note) == ("", "")


def test_babble_with_few_or_unknown_speakers_is_noted_and_without_others_missing():
    clips = [np.ones(100, np.float32)] * 10
    ids = [f"t{n}" for n in range(10)]
    two = talkers_of(clips, ids, ["a", "b"] * 5)
    assert two.note == "1 other talkers, several clips of each"
    drawn = draw_talkers(two, "t0", "a", np.random.default_rng(0))
    assert 4 <= len(drawn) <= 5  # b has five clips
    assert {two.speakers[row] for row in drawn} == {"b"}
    unknown = talkers_of(clips, ids, [""] * 10)
    assert "unknown" in unknown.note
    for seed in range(20):
        drawn = draw_talkers(unknown, "t0", "", np.random.default_rng(seed))
        assert 0 not in drawn
        assert 4 <= len(set(drawn)) == len(drawn) <= 7
    assert talkers_of(clips, ids, ["a"] * 10).missing == "the corpus has one speaker"
    silent = [np.zeros(100, np.float32)] * 9 + clips[:1]
    assert "second clip" in talkers_of(silent, ids, ["a", "b"] * 5).missing


def test_the_telephone_band_passes_its_band_alone():
    time = np.arange(16_000) / 16_000
    hertz = np.array([100, 200, 500, 1000, 2000, 3200, 3700, 6000])
    tones = np.sin(2 * np.pi * hertz[:, None] * time).astype(np.float32)
    lengths = np.full(8, 16_000, np.int32)
    filtered = np.asarray(band_pass(jnp.asarray(tones), jnp.asarray(lengths), 300.0, 3400.0))[:, 2000:-2000]
    level = 20 * np.log10(np.sqrt(2 * np.square(filtered).mean(axis=1)) + 1e-9)
    inside = (hertz >= 500) & (hertz <= 3200)
    np.testing.assert_allclose(level[inside], 0.0, atol=0.05)
    assert (level[(hertz <= 100) | (hertz >= 3700)] < -55).all()
    np.testing.assert_allclose(filtered[3], tones[3, 2000:-2000], atol=0.01)  # no delay


def test_music_is_drawn_by_the_generator_and_has_harmonics_and_rhythm():
    first, again = (music_like(48_000, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - music_like(48_000, np.random.default_rng(2))).max() > 0.1
    assert np.abs(first).max() == pytest.approx(1.0)
    energies = np.sort(np.square(np.abs(np.fft.rfft(first))))[::-1]
    assert energies[:240].sum() > 0.7 * energies.sum()  # 1 % of the frequencies: tones, not noise
    frames = np.square(first.reshape(-1, 800)).mean(axis=1)
    assert frames.std() > 0.4 * frames.mean()


@pytest.mark.parametrize("rt60", [0.2, 0.8, 2.0])
def test_reverberation_time_of_an_exponential_decay(rt60):
    time = np.arange(int(1.5 * rt60 * 16_000)) / 16_000
    response = np.random.default_rng(0).standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    response[:5] = 0
    response[5] = 5.0
    assert reverberation_time(response.astype(np.float32)) == pytest.approx(rt60, rel=0.08)
    assert reverberation_time(np.eye(1, 50, dtype=np.float32)[0]) == 0.0


def test_a_condition_is_clean_without_a_degradation(degrader):
    batch = a_batch()
    found = degrader(Condition("clean", "clean"), batch)
    np.testing.assert_array_equal(found.batch.waveform, batch.waveform)
    assert isinstance(found.batch.waveform, jax.Array)
    assert not np.concatenate([found.no_snr, found.beyond]).any()
