"""Perturbations and degradations of clips: levels, frequencies and lengths against arithmetic; one seed, one result."""

import numpy as np
import pytest

from emojax.audio import clip_degradations, perturbations
from emojax.audio.clip_degradations import babble_of, clip_generator, each, excerpts_of, in_room, with_noise
from emojax.audio.pitch import mean_f0
from emojax.audio.waveform_augment import SoundBank
from emojax.errors import AudioError

RATE = 16_000


def noise(seconds=1.0, seed=0, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def db(power):
    return 10 * np.log10(power)


def gain_at(changed, original, hertz, width=100):
    """Gain (dB) in a band around a frequency."""
    frequencies = np.fft.rfftfreq(len(original), 1 / RATE)
    band = np.abs(frequencies - hertz) < width
    return db(
        np.square(np.abs(np.fft.rfft(changed)))[band].sum() / np.square(np.abs(np.fft.rfft(original)))[band].sum()
    )


def test_gain_is_in_decibels():
    original = noise()
    assert db(np.square(perturbations.change_gain(original, -6.0)).sum() / np.square(original).sum()) == pytest.approx(
        -6
    )


def test_ends_are_cropped_and_padded():
    original = noise(0.1)
    np.testing.assert_array_equal(perturbations.crop(original, 10, 20), original[10:-20])
    padded = perturbations.pad(original, 3, 5)
    np.testing.assert_array_equal(padded[3:-5], original)
    assert not padded[:3].any()
    assert not padded[-5:].any()
    with pytest.raises(AudioError, match="longer than the 1600 samples"):
        perturbations.crop(original, 800, 800)


def test_a_share_of_the_samples_is_clipped():
    original = noise()
    clipped = perturbations.clip_samples(original, 0.01)
    changed = clipped != original
    assert changed.mean() == pytest.approx(0.01, abs=1e-4)
    np.testing.assert_allclose(np.abs(clipped[changed]), np.abs(clipped).max(), rtol=1e-6)


@pytest.mark.parametrize(("kind", "octave"), [("highpass", 0.5), ("lowpass", 2.0)])
def test_filters_attenuate_3_db_at_their_frequency_and_6_db_per_octave_beyond(kind, octave):
    original = noise(4.0)
    filtered = perturbations.filter_ends(original, kind, 500.0)
    assert gain_at(filtered, original, 500, 20) == pytest.approx(-3.0, abs=0.3)
    assert gain_at(filtered, original, 500 * octave, 20) == pytest.approx(-7.0, abs=0.4)
    steep = perturbations.filter_ends(original, kind, 500.0, order=2)
    assert gain_at(steep, original, 500 * octave, 20) == pytest.approx(-12.3, abs=0.5)


def test_the_spectrum_is_tilted_by_a_slope_and_keeps_its_energy():
    original = noise(4.0)
    tilted = perturbations.tilt_spectrum(original, -3.0)
    gains = [gain_at(tilted, original, hertz) for hertz in (500, 1000, 2000, 4000)]
    np.testing.assert_allclose(np.diff(gains), -3.0, atol=0.2)
    assert np.square(tilted).sum() == pytest.approx(np.square(original).sum(), rel=1e-4)


def test_compression_lifts_quiet_parts_and_keeps_the_peak():
    original = np.concatenate([noise(0.5, level=0.3), noise(0.5, seed=1, level=0.01)])
    compressed = perturbations.compress_dynamics(original)

    def ratio(waveform):
        return db(np.square(waveform[2000:6000]).mean() / np.square(waveform[-4000:]).mean())

    assert ratio(compressed) < ratio(original) - 3
    assert np.abs(compressed).max() == pytest.approx(np.abs(original).max())


def test_a_lower_rate_removes_what_is_above_half_of_it():
    original = noise(2.0)
    changed = perturbations.through_rate(original, 8000)
    assert len(changed) == len(original)
    assert gain_at(changed, original, 2000) == pytest.approx(0, abs=0.1)
    assert gain_at(changed, original, 6000) < -60


@pytest.mark.parametrize("codec", ["opus", "gsm", "amr_nb"])
def test_codecs_keep_length_and_level_and_lose_the_shape(codec):
    if perturbations.missing_codec(codec):
        pytest.skip(perturbations.missing_codec(codec))
    time = np.arange(RATE) / RATE
    original = (0.3 * sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 10))).astype(np.float32)
    coded = perturbations.through_codec(original, codec)
    assert coded.shape == original.shape
    assert coded.dtype == np.float32
    assert db(np.square(coded).mean() / np.square(original).mean()) == pytest.approx(0, abs=2)
    assert np.abs(coded - original).max() > 1e-3
    assert abs(gain_at(coded, original, 300, 50)) < 3


def test_pink_noise_falls_by_3_db_per_octave():
    pink = perturbations.pink_noise(8 * RATE, np.random.default_rng(0))
    white = perturbations.white_noise(8 * RATE, np.random.default_rng(1))
    gains = [gain_at(pink, white, hertz, 80) for hertz in (400, 800, 1600, 3200)]
    np.testing.assert_allclose(np.diff(gains), -3.0, atol=0.4)
    assert pink.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("snr", [10.0, 20.0])
def test_noise_is_added_at_its_ratio_to_active_speech(snr):
    clips = [noise(0.5, seed) for seed in range(3)]
    degraded = with_noise(perturbations.white_noise, snr, "white")(clips, ["a", "b", "c"], 0)
    for clip, noisy in zip(clips, degraded, strict=True):
        assert db(np.square(clip).mean() / np.square(noisy - clip).mean()) == pytest.approx(snr, abs=0.05)


def test_a_seed_degrades_a_clip_equally_in_any_order_and_company():
    clips = [noise(seconds, seed) for seed, seconds in enumerate((0.3, 1.4, 0.6))]
    sounds = SoundBank(np.stack([noise(0.2, 7), noise(0.2, 8)]), np.array([3200, 2000], np.int32), ("x", "y"))
    for make in (perturbations.white_noise, excerpts_of(sounds), babble_of(clips, voices=2)):
        degrade = with_noise(make, 15.0, "name")
        whole = degrade(clips, ["a", "b", "c"], 0)
        reversed_order = degrade(clips[::-1], ["c", "b", "a"], 0)[::-1]
        (alone,) = degrade(clips[1:2], ["b"], 0)
        for one, other in zip(whole, reversed_order, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
        np.testing.assert_allclose(alone, whole[1], atol=1e-6)
        assert np.abs(degrade(clips[1:2], ["b"], 1)[0] - alone).max() > 1e-3
        assert np.abs(degrade(clips[1:2], ["other"], 0)[0] - alone).max() > 1e-3
    quiet = with_noise(perturbations.white_noise, 35.0, "white")(clips, ["a", "b", "c"], 0)
    loud = with_noise(perturbations.white_noise, 15.0, "white")(clips, ["a", "b", "c"], 0)
    np.testing.assert_allclose(loud[0] - clips[0], 10 * (quiet[0] - clips[0]), atol=1e-5)  # the same noise
    assert clip_generator(0, "a", "x").random() != clip_generator(0, "a", "y").random()


def test_a_room_of_one_impulse_changes_nothing_and_an_echo_comes_later():
    clips = [noise(0.3, 1), noise(0.2, 2)]
    response = np.zeros(800, np.float32)
    response[0] = 1.0
    for clip, same in zip(clips, in_room(response)(clips, ["a", "b"], 0), strict=True):
        np.testing.assert_allclose(same, clip, atol=1e-5)
    response[500] = 0.5
    (echo, _) = in_room(response)(clips, ["a", "b"], 0)
    expected = clips[0].copy()
    expected[500:] += 0.5 * clips[0][:-500]
    expected *= np.sqrt(np.square(clips[0]).sum() / np.square(expected).sum())
    np.testing.assert_allclose(echo, expected, atol=1e-5)


def test_degradations_are_applied_in_sequence():
    clip = noise(0.1)
    degrade = clip_degradations.in_sequence(each(perturbations.change_gain, 6.0), each(perturbations.crop, 100, 0))
    (changed,) = degrade([clip], ["a"], 0)
    np.testing.assert_allclose(changed, perturbations.change_gain(clip, 6.0)[100:])


def test_mean_fundamental_frequency_of_a_voice_and_of_silence():
    time = np.arange(RATE // 2) / RATE
    voice = sum(np.sin(2 * np.pi * 160 * k * time) / k for k in range(1, 12)).astype(np.float32)
    assert mean_f0(voice) == pytest.approx(160, rel=0.01)
    assert np.isnan(mean_f0(np.zeros(RATE // 2, np.float32)))
