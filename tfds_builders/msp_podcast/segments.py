"""Reader of the segments of a release, and conversion of segments to utterances."""

import collections
import dataclasses
import math
import re
from pathlib import Path

import numpy as np

from emojax.errors import CorpusError
from emojax.text_files import find_folder, listing, read_text
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES
from tfds_builders.msp_podcast.labels import (
    CATEGORIES,
    SCALE,
    Consensus,
    Raters,
    label_files,
    read_consensus,
    read_detailed,
    read_label_blocks,
    read_partitions,
    read_speakers,
)
from tfds_builders.msp_podcast.releases import Release
from tfds_builders.utterance import Made, read_pcm, utterance

RATING_BINS = SCALE[1] - SCALE[0] + 1
"""Ratings of an attribute that raters choose from."""

_UNRATED = Consensus(MISSING_EMOTION, (math.nan, math.nan, math.nan))

# Names of label files in the releases: pattern, and the usual name.
_CONSENSUS = (re.compile(r"labels_con[cs]ensus\.csv"), "labels_consensus.csv")
_DETAILED = (re.compile(r"labels_detailed\.csv"), "labels_detailed.csv")
_BLOCKS = (re.compile(r"labels\.txt"), "labels.txt")
_PARTITIONS = (re.compile(r"partitions?\.txt"), "Partitions.txt")
_SPEAKERS = (re.compile(r"speaker_?ids\.txt"), "Speaker_ids.txt")


@dataclasses.dataclass(frozen=True)
class Segment:
    """One segment of a podcast.

    Attributes:
      audio: audio file.
      consensus: consensus labels.
      raters: statistics of the raters; None if the release does not contain them.
      transcript: transcript file; None if there is none.
      automatic: whether the transcript is from a speech recogniser.
    """

    audio: Path
    consensus: Consensus
    raters: Raters | None
    transcript: Path | None
    automatic: bool


@dataclasses.dataclass(frozen=True)
class _Labels:
    consensus: dict[str, Consensus]
    raters: dict[str, Raters]


def read_release(
    manual_dir: Path, release: Release, counts: collections.Counter[str], sources: list[Path]
) -> dict[str, list[Segment]]:
    """Reads the segments by split; inconsistencies between files are counted, not raised.

    Args:
      manual_dir: folder of the release, or its parent.
      release: the release.
      counts: counter of missing and duplicate items, updated in place.
      sources: list of files that were read or looked for, extended in place.

    Raises:
      CorpusError: the folder is not a release, or a label file has an unknown format.
    """
    root, audio_folder = _root(manual_dir)
    audio = {
        path.name: path
        for path in sorted(audio_folder.rglob("*"))
        if path.suffix.lower() == ".wav" and not path.name.startswith("._")
    }
    labels = _labels(root, counts, sources)
    partitions = _optional(root, _PARTITIONS, sources)
    written = read_partitions(partitions) if partitions else {}
    speaker_file = _optional(root, _SPEAKERS, sources)
    speakers, genders = read_speakers(speaker_file) if speaker_file else ({}, {})
    human, automatic = _transcripts(root)
    splits: dict[str, list[Segment]] = {split: [] for split in release.splits}
    unlabelled = {name: _UNRATED for name in audio if name not in labels.consensus}
    for name, label in {**labels.consensus, **unlabelled}.items():
        split = _split(name, label, written, release)
        sources.append(audio.get(name, audio_folder / name))
        if name not in audio:
            counts["without_audio"] += 1
        elif split is None or (label is _UNRATED and split != "test3"):
            counts["audio_without_labels" if label is _UNRATED else "without_split"] += 1
        else:
            words = human.get(Path(name).stem) or automatic.get(Path(name).stem)
            sources.append(words or root / "Transcripts" / f"{Path(name).stem}.txt")
            speaker = label.speaker or speakers.get(name, "")
            gender = label.gender or genders.get(speaker, "")
            label = dataclasses.replace(label, speaker=speaker, gender=gender)
            raters = labels.raters.get(name)
            splits[split].append(Segment(audio[name], label, raters, words, Path(name).stem not in human))
    _compare(splits, release, counts)
    return {split: segments for split, segments in splits.items() if segments}


def make_utterance(segment: Segment) -> Made:
    """Decodes a segment; segments that cannot be decoded are skipped and counted."""
    try:
        audio = read_pcm(segment.audio)
    except CorpusError as error:
        return Made(None, ("corrupt_audio",), str(error))
    label, raters = segment.consensus, segment.raters
    counted = []
    words = ""
    if segment.transcript is not None:
        text, is_utf8 = read_text(segment.transcript)
        words = " ".join(text.split())
        counted += [] if is_utf8 else ["transcript_not_utf8"]
    counted.append(("transcript_asr" if segment.automatic else "transcript_human") if words else "no_transcript")
    if math.isnan(sum(label.attributes)):
        counted.append("without_ratings")
    elif label.emotion == MISSING_EMOTION:
        counted.append("no_agreement")
    elif CATEGORIES[label.emotion] == "other":
        counted.append("other")
    if not label.speaker:
        counted.append("unknown_speaker")
    example = utterance(
        id=segment.audio.stem,
        audio=audio,
        num_categories=len(CATEGORIES),
        transcript=words,
        attributes=label.attributes,
        attributes_std=raters.std if raters else None,
        emotion=label.emotion,
        emotion_votes=raters.votes if raters else None,
        speaker=label.speaker,
        gender=label.gender,
        attributes_histogram=raters.histogram if raters else np.zeros((NUM_ATTRIBUTES, RATING_BINS), np.float32),
    )
    return Made(example, tuple(counted))


def _root(manual_dir: Path) -> tuple[Path, Path]:
    """Finds the release's folder and its audio folder."""
    inside = [path for path in sorted(manual_dir.iterdir()) if path.is_dir()]
    for root in (manual_dir, *inside):
        audio = find_folder(root, ("audios", "audio"))
        if audio:
            return root, audio
    raise CorpusError(
        f"{manual_dir}: not an MSP-Podcast release; looked for a folder Audios (or Audio) there and one level below; "
        f"found {listing(manual_dir)}"
    )


def _labels(root: Path, counts: collections.Counter[str], sources: list[Path]) -> _Labels:
    folder = find_folder(root, ("labels", "label")) or root
    consensus, detailed, blocks = (_optional(folder, name, sources) for name in (_CONSENSUS, _DETAILED, _BLOCKS))
    if consensus is None and blocks is None:
        raise CorpusError(
            f"{root}: no labels; looked for labels_consensus.csv, labels_concensus.csv or labels.txt in "
            f"{folder.name if folder != root else 'Labels/, labels/, label/ and the folder itself'}; "
            f"found {listing(folder)}"
        )
    if consensus is not None:
        raters = read_detailed(detailed) if detailed else {}
        if detailed is None and blocks is not None:
            raters = read_label_blocks(blocks, collections.Counter())[1]
        return _Labels(read_consensus(consensus, counts), raters)
    assert blocks is not None
    found, raters = read_label_blocks(blocks, counts)
    return _Labels(found, read_detailed(detailed) if detailed else raters)


def _optional(folder: Path, names: tuple[re.Pattern[str], str], sources: list[Path]) -> Path | None:
    pattern, usual = names
    found = next((path for path in label_files(folder) if pattern.fullmatch(path.name.lower())), None)
    sources.append(found or folder / usual)
    return found


def _transcripts(root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Finds human and automatic transcripts by segment; folders of automatic ones have "asr" in their names."""
    human: dict[str, Path] = {}
    automatic: dict[str, Path] = {}
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and "transcript" in folder.name.lower():
            files = {path.stem: path for path in folder.rglob("*.txt") if not path.name.startswith("._")}
            (automatic if "asr" in folder.name.lower() else human).update(files)
    return human, automatic


def _split(name: str, label: Consensus, written: dict[str, str], release: Release) -> str | None:
    split = release.split_of(label.split or written.get(name, ""))
    if split is None and label is _UNRATED and "test3" in name.lower().replace("_", ""):
        return release.split_of("test3")
    return split


def _compare(splits: dict[str, list[Segment]], release: Release, counts: collections.Counter[str]) -> None:
    for split, published in release.sizes.items():
        difference = len(splits[split]) - published
        if difference:
            counts[f"{split}_{'more' if difference > 0 else 'fewer'}_than_published"] += abs(difference)
