"""Audio in, frame-level acoustic features out."""

from emojax.audio.deltas import add_deltas, deltas
from emojax.audio.feature_augment import TimeStretchConfig, VTLPConfig, perturb_vocal_tract, stretch_time
from emojax.audio.files import read_audio, to_mono_16khz
from emojax.audio.log_mel import LogMelConfig, frame_mask, log_mel, num_frames
from emojax.audio.mfcc import NUM_COEFFICIENTS, mfcc
from emojax.audio.mono import MAX_MAGNITUDE, MAX_SECONDS, check_samples
from emojax.audio.noise import add_noise
from emojax.audio.normalise import (
    FeatureStatistics,
    feature_statistics,
    mean_and_std,
    merge_statistics,
    normalise_utterance,
    normalise_with,
)
from emojax.audio.reverberation import convolve, reverberate
from emojax.audio.sound_bank import SoundBank, noise_bank, room_bank
from emojax.audio.spec_augment import SpecAugmentConfig, spec_augment
from emojax.audio.speech_activity import active_power, speech_activity
from emojax.audio.speed import change_speed
from emojax.audio.waveform_augment import Sounds, WaveformAugmentConfig, augment_waveform, load_sounds

__all__ = [
    "MAX_MAGNITUDE",
    "MAX_SECONDS",
    "NUM_COEFFICIENTS",
    "FeatureStatistics",
    "LogMelConfig",
    "SoundBank",
    "Sounds",
    "SpecAugmentConfig",
    "TimeStretchConfig",
    "VTLPConfig",
    "WaveformAugmentConfig",
    "active_power",
    "add_deltas",
    "add_noise",
    "augment_waveform",
    "change_speed",
    "check_samples",
    "convolve",
    "deltas",
    "feature_statistics",
    "frame_mask",
    "load_sounds",
    "log_mel",
    "mean_and_std",
    "merge_statistics",
    "mfcc",
    "noise_bank",
    "normalise_utterance",
    "normalise_with",
    "num_frames",
    "perturb_vocal_tract",
    "read_audio",
    "reverberate",
    "room_bank",
    "spec_augment",
    "speech_activity",
    "stretch_time",
    "to_mono_16khz",
]
