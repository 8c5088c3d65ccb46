"""Synthetic annotations for the page: three hours with everything, and a recording without anything optional."""

import wave

import numpy as np

ATTRIBUTES = ("activation", "valence", "dominance")
CATEGORIES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")

_SENTENCES = (
    "so I told them that we had waited long enough for an answer",
    "and what did they say to you when you called again",
    "honestly nothing at all they put me through to somebody else",
    "it was the best week that I have had in a very long time",
    "I am not sure that this is how I remember the whole story",
    "you never listen to what I am trying to explain here do you",
    "we walked along the river until it was dark and nobody spoke",
    "that is wonderful news congratulations to both of you really",
    "well the report was due on Monday and nobody had started it",
    "please do not do that again it frightened the children badly",
    "she laughed so much that she had to sit down on the stairs",
    "I keep thinking about the letter that he left on the table",
)


def long_annotation(segments=2000, words=15, seconds=10800.0, speakers=("Ana", "Ben", "Chidi"), seed=0):
    """Segments of `words` words with pauses between them; 2,000 by 15 in three hours by default."""
    rng = np.random.default_rng(seed)
    slot = seconds / segments
    speaker = (np.cumsum(rng.random(segments) < 0.45) % len(speakers)).astype(int)
    share = rng.uniform(0.55, 0.92, segments)  # of a slot that is speech
    made = [_segment(rng, i, slot, share[i], words, speakers[speaker[i]], seconds) for i in range(segments)]
    times = np.arange(1.5, seconds - 1.4, 0.5)
    silent = times % slot > (share * slot + 0.03 * slot)[(times // slot).astype(int)]
    track = {"window": 3.0, "hop": 0.5, "times": times.tolist()}
    for name in ATTRIBUTES:
        values = _course(name, times, seconds) + 0.25 * _smooth(rng.standard_normal(len(times)), 5)
        track[name] = [None if gap else round(value, 3) for gap, value in zip(silent, values.tolist(), strict=True)]
    spread = 0.35 + 0.2 * np.abs(_smooth(rng.standard_normal(len(times)), 9))
    track["spread"] = {name: spread.round(3).tolist() for name in ATTRIBUTES}
    return {
        "format": "emojax annotation",
        "version": 1,
        "file": "interview.wav",
        "duration": seconds,
        "model": {"name": "student_s", "corpus": "msp_podcast/2.0.0", "scale": [1, 7]},
        "attributes": list(ATTRIBUTES),
        "categories": list(CATEGORIES),
        "speech": "recorded",
        "segments": made,
        "track": track,
        "waveform": {"hop": 0.02, "peaks": _peaks(rng, seconds, slot, share)},
        "counts": {"segments": segments, "speech_seconds": float(slot * share.sum()), "skipped": 0},
    }


def tiny_annotation():
    """No categories, speakers, transcript, segments, track or waveform."""
    return {
        "format": "emojax annotation",
        "version": 1,
        "file": "beep.wav",
        "duration": 2.0,
        "model": {"name": "m", "corpus": "c", "scale": [0, 1]},
        "attributes": ["valence"],
        "categories": [],
        "speech": "synthesised",
        "segments": [],
        "track": {"window": 3.0, "hop": 0.5, "times": [], "valence": [], "spread": None},
        "waveform": {"hop": 0.02, "peaks": []},
        "counts": {"segments": 0, "speech_seconds": 0.0, "skipped": 0},
    }


def write_silence(path, seconds, rate=8000):
    """Writes 8-bit WAV; three hours take no space on the disk, since zeros are not written."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(rate)
        file.setnframes(int(seconds * rate))
        file.writeframesraw(b"")
        file._datawritten = int(seconds * rate)  # the header counts the frames of the hole
    with open(path, "r+b") as file:
        file.truncate(44 + int(seconds * rate))


def _segment(rng, i, slot, share, words, speaker, seconds):
    start = round(i * slot + 0.03 * slot, 3)
    end = round(start + share * slot, 3)
    values = {name: float(_course(name, start, seconds) + 0.4 * rng.standard_normal()) for name in ATTRIBUTES}
    values = {name: round(min(max(value, 1.0), 7.0), 3) for name, value in values.items()}
    logits = _logits(values["valence"] - 4, values["activation"] - 4) + 0.6 * rng.standard_normal(len(CATEGORIES))
    shares = np.exp(logits) / np.exp(logits).sum()
    text = " ".join(_SENTENCES[(i * 7 + k) % len(_SENTENCES)] for k in range(words // 12 + 1)).split()[:words]
    limits = start + (end - start) * np.arange(words + 1) / max(words, 1)
    sure = np.where(rng.random(words) < 0.04, 0.3, 0.9)
    return {
        "start": start,
        "end": end,
        "speaker": speaker,
        **values,
        "spread": {name: round(0.3 + 0.3 * rng.random(), 3) for name in ATTRIBUTES},
        "emotion": CATEGORIES[int(shares.argmax())],
        "probabilities": {name: round(float(share), 3) for name, share in zip(CATEGORIES, shares, strict=True)},
        "transcript": " ".join(text),
        "words": [
            {"word": word, "start": round(a, 3), "end": round(b, 3), "probability": float(p)}
            for word, a, b, p in zip(text, limits[:-1].tolist(), limits[1:].tolist(), sure, strict=True)
        ],
    }


def _course(name, time, seconds):
    """Slow waves of an attribute around the centre of the scale."""
    phase = {"activation": 0.0, "valence": 2.1, "dominance": 4.0}[name]
    slow = 1.1 * np.sin(9 * np.pi * time / seconds + phase)
    return 4.0 + slow + 0.7 * np.sin(time / 11 + 2 * phase) + 0.3 * np.sin(time / 3.7 + phase)


def _logits(valence, activation):
    anger, joy, sad = activation - valence, activation + 1.3 * valence, -activation - valence
    return np.array([anger, 0.3 - valence, 0.6 * anger - 0.6, joy, 1.2, 1.1 * sad, 0.8 * activation])


def _peaks(rng, seconds, slot, share):
    times = np.arange(0, seconds, 0.02)
    into = times % slot - 0.03 * slot
    speech = (into > 0) & (into < (share * slot)[np.minimum(times // slot, len(share) - 1).astype(int)])
    syllables = 0.55 + 0.45 * np.sin(times * 2 * np.pi * 3.1 + 2 * np.sin(times))
    loudness = 0.6 + 0.3 * np.sin(times / 217) + 0.1 * np.sin(times / 31)
    peaks = np.where(speech, loudness * syllables * rng.uniform(0.35, 0.95, len(times)), 0.012)
    return (np.round(255 * peaks) / 255).tolist()


def _smooth(values, width):
    return np.convolve(values, np.ones(width) / np.sqrt(width), mode="same")
