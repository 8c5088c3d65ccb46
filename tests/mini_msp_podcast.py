"""Miniature MSP-Podcast releases: names, columns and quirks of every dialect, invented labels, synthetic sound."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import soundfile

CODES = {"Angry": "A", "Sad": "S", "Happy": "H", "Neutral": "N", "Other": "O"}
WORDS = {"A": "this is awful", "S": "what a pity", "H": "how wonderful", "N": "it is noon", "O": "well well", "X": "hm"}


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a release is written.

    Attributes:
      labels: name of the label folder; "" puts the files beside the audio folder.
      consensus: name of the consensus table; "" for a release that only has labels.txt.
      detailed: "workers", "detail" or "worker_id", the header of the raters' table; "" without one.
      splits: as written, by our name.
      audio: name of the audio folder.
      speakers_in_table: whether the consensus table has speaker, gender and split.
    """

    labels: str
    consensus: str
    detailed: str
    splits: dict[str, str]
    audio: str = "Audios"
    speakers_in_table: bool = True


_OLD = {"train": "Train", "development": "Validation"}
_NEW = {"train": "Train", "development": "Development", "test1": "Test1", "test2": "Test2"}
_FOUR = {**_OLD, "test1": "Test1", "test2": "Test2"}

DIALECTS = {
    "v1_3": Dialect("", "", "", {**_OLD, "test1": "Test"}, "Audio", speakers_in_table=False),
    "v1_6": Dialect("label", "labels_concensus.csv", "workers", {**_OLD, "test1": "Test"}, "Audio"),
    "v1_7": Dialect("Labels", "labels_concensus.csv", "detail", _FOUR),
    "v1_8": Dialect("label", "labels_concensus.csv", "detail", _FOUR),
    "v1_9": Dialect("labels", "labels_concensus.csv", "detail", _FOUR),
    "v1_10": Dialect("Labels", "labels_consensus.csv", "detail", _NEW),
    "v1_11": Dialect("Labels", "labels_consensus.csv", "detail", {**_NEW, "test3": "Test3"}),
    "v1_12": Dialect("Labels", "labels_consensus.csv", "detail", {**_NEW, "test3": "Test3"}),
    "challenge": Dialect(
        "Labels", "labels_consensus.csv", "detail", {"train": "Train", "development": "Development", "test3": "Test3"}
    ),
    "v2_0": Dialect("Labels", "labels_consensus.csv", "worker_id", {**_NEW, "test3": "Test3"}),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A segment and what three invented raters said of it."""

    name: str
    split: str
    speaker: str
    gender: str
    ratings: tuple[tuple[str, float, float, float], ...]

    @property
    def mean(self):
        return [round(float(np.mean([rating[i] for rating in self.ratings])), 6) for i in (1, 2, 3)]

    @property
    def code(self):
        names = [rating[0] for rating in self.ratings]
        best = max(set(names), key=names.count)
        return CODES[best.split("-")[0]] if names.count(best) > 1 else "X"


def rows(dialect: Dialect, per_split: int) -> list[Row]:
    """Segments of every labelled split; the last of each has no agreement, the first no known speaker."""
    made = []
    for place, split in enumerate(dialect.splits):
        if split == "test3":
            continue
        for number in range(per_split):
            random = np.random.default_rng([place, number])
            name = f"MSP-PODCAST_{place + 1:04d}_{number + 1:04d}" + ("_0002" if number % 3 == 1 else "") + ".wav"
            centre = random.uniform(1.5, 6.5, 3)
            emotions = [list(CODES)[(number + place) % 5]] * 3
            if number == per_split - 1:
                emotions = ["Angry", "Sad", "Happy"]
            if emotions[0] == "Other":
                emotions[0] = emotions[1] = "Other-bored; really"
            ratings = tuple(
                (emotion, *np.clip(np.rint(centre + random.normal(0, 0.8, 3)), 1, 7).tolist()) for emotion in emotions
            )
            unknown = number == 0
            speaker = "Unknown" if unknown else str(10 * (place + 1) + number % 4)
            gender = "Unknown" if unknown else ("Female", "Male")[number % 2]
            made.append(Row(name, split, speaker, gender, ratings))
    return made


def write_release(folder: Path, release: str, per_split: int = 6, quirks: bool = True) -> list[Row]:
    """Writes a release; returns its labelled segments.

    With `quirks`: a byte-order mark, a missing and an empty transcript and one that is not UTF-8, a stereo file at
    8 kHz, a duplicate row, a row without audio, audio without a row, files that macOS adds.
    """
    dialect = DIALECTS[release]
    made = rows(dialect, per_split)
    audio = folder / dialect.audio
    labels = folder / dialect.labels
    transcripts = folder / "Transcripts"
    for directory in (audio, labels, transcripts):
        directory.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(made):
        stereo = quirks and number == 1
        write_tone(audio / row.name, row.mean, number, rate=8_000 if stereo else 16_000, channels=2 if stereo else 1)
        words = WORDS[row.code]
        if quirks and number == 2:
            (transcripts / f"{Path(row.name).stem}.txt").write_bytes("café au lait".encode("latin-1"))
        elif quirks and number == 3:
            (transcripts / f"{Path(row.name).stem}.txt").write_text(" \n")
        elif not (quirks and number == 4):
            (transcripts / f"{Path(row.name).stem}.txt").write_text(words)
    if "test3" in dialect.splits:
        for number in range(3):
            write_tone(audio / f"MSP-PODCAST_test3_{number:04d}.wav", [4, 4, 4], 900 + number)
            (transcripts / f"MSP-PODCAST_test3_{number:04d}.txt").write_text("who knows")
    if quirks:
        write_tone(audio / "MSP-PODCAST_9999_0001.wav", [4, 4, 4], 999)
        (audio / "._MSP-PODCAST_9999_0001.wav").write_bytes(b"macOS")
        (labels / "._labels_consensus.csv").write_bytes(b"macOS")
    listed = [*made, dataclasses.replace(made[0], name="MSP-PODCAST_9998_0001.wav")] if quirks else made
    if dialect.consensus:
        _write_consensus(labels / dialect.consensus, dialect, listed, quirks)
        _write_detailed(labels / "labels_detailed.csv", dialect.detailed, made)
    else:
        _write_blocks(labels / "labels.txt", listed + ([made[0]] if quirks else []))
    _write_partitions(folder / "Partitions.txt", dialect, listed)
    _write_speakers(folder / "Speaker_ids.txt", listed)
    return made


def write_tone(path: Path, attributes, number: int, rate: int = 16_000, channels: int = 1) -> None:
    """Sound whose pitch follows activation and whose level follows dominance."""
    activation, _, dominance = attributes
    random = np.random.default_rng(number)
    time = np.arange(int(rate * random.uniform(0.4, 1.0))) / rate
    tone = np.sin(2 * np.pi * (100 + 80 * activation) * time) * 0.02 * 1.6**dominance
    samples = (tone + random.normal(0, 0.002, len(time))).astype(np.float32)
    soundfile.write(path, np.stack([samples] * channels, axis=1), rate, subtype="PCM_16")


def _write_consensus(path: Path, dialect: Dialect, made: list[Row], quirks: bool) -> None:
    lines = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    for row in made:
        activation, valence, dominance = row.mean
        written = f"{row.name},{row.code},{activation},{valence},{dominance},{row.speaker},{row.gender}"
        lines.append(f"{written},{dialect.splits[row.split]}")
    if quirks:
        lines.append(lines[1])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig" if quirks else "utf-8")
    path.with_suffix(".json").write_text(json.dumps({row.name: {"EmoClass": row.code} for row in made}))


def _write_detailed(path: Path, dialect: str, made: list[Row]) -> None:
    if dialect == "detail":
        lines = ["FileName,EmoDetail"]
        lines += [f'{row.name},"{_rater(rating, number)}"' for row in made for number, rating in enumerate(row.ratings)]
    else:
        worker = {"workers": "Workers", "worker_id": "WorkerID"}[dialect]
        lines = [f"FileName,{worker},EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"]
        for row in made:
            for number, (emotion, activation, valence, dominance) in enumerate(row.ratings):
                second = '"Neutral,Concerned"' if number else ""
                lines.append(f"{row.name},WORKER{number:08d},{emotion},{second},{activation},{valence},{dominance}")
    path.write_text("\n".join(lines) + "\n")


def _write_blocks(path: Path, made: list[Row]) -> None:
    blocks = []
    for row in made:
        activation, valence, dominance = row.mean
        head = f"{row.name}; {row.code}; A:{activation:.6f}; V:{valence:.6f}; D:{dominance:.6f};"
        blocks.append("\n".join([head, *(_rater(rating, number) for number, rating in enumerate(row.ratings))]))
    path.write_text("\n\n".join(blocks) + "\n\n")


def _rater(rating, number: int) -> str:
    emotion, activation, valence, dominance = rating
    second = "Neutral,Concerned" if number else ""
    return f"WORKER{number:08d}; {emotion}; {second}; A:{activation:.6f}; V:{valence:.6f}; D:{dominance:.6f};"


def _write_partitions(path: Path, dialect: Dialect, made: list[Row]) -> None:
    blocks = []
    for split, written in dialect.splits.items():
        blocks.append("\n".join(f"{written}; {row.name}" for row in made if row.split == split))
    path.write_text("\n\n".join(blocks) + "\n")


def _write_speakers(path: Path, made: list[Row]) -> None:
    genders = {row.speaker: row.gender for row in made if row.speaker != "Unknown"}
    first = [f"Speaker_{speaker}; {gender}" for speaker, gender in genders.items()]
    second = [f"{row.name};{row.speaker}" for row in made]
    path.write_text("\n".join([*first, "*" * 54, "", *second]) + "\n")
