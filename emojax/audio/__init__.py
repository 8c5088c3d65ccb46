"""Audio in, frame-level acoustic features out."""

from emojax.audio.deltas import add_deltas, deltas
from emojax.audio.feature_augment import TimeStretchConfig, VTLPConfig, perturb_vocal_tract, stretch_time
from emojax.audio.files import read_audio, to_mono_16khz
from emojax.audio.log_mel import LogMelConfig, frame_mask, log_mel, num_frames
from emojax.audio.normalise import (
    FeatureStatistics,
    feature_statistics,
    mean_and_std,
    merge_statistics,
    normalise_utterance,
    normalise_with,
)
from emojax.audio.spec_augment import SpecAugmentConfig, spec_augment

__all__ = [
    "FeatureStatistics",
    "LogMelConfig",
    "SpecAugmentConfig",
    "TimeStretchConfig",
    "VTLPConfig",
    "add_deltas",
    "deltas",
    "feature_statistics",
    "frame_mask",
    "log_mel",
    "mean_and_std",
    "merge_statistics",
    "normalise_utterance",
    "normalise_with",
    "num_frames",
    "perturb_vocal_tract",
    "read_audio",
    "spec_augment",
    "stretch_time",
    "to_mono_16khz",
]
