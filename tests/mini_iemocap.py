"""A miniature IEMOCAP: names, folders and quirks of the real one, with invented labels and synthetic sound."""

import dataclasses
from pathlib import Path

import numpy as np
import soundfile

CODES = ("neu", "hap", "sad", "ang", "sur", "fea", "dis", "fru", "exc", "oth", "xxx")
WRITTEN = {
    "neu": "Neutral state",
    "hap": "Happiness",
    "sad": "Sadness",
    "ang": "Anger",
    "sur": "Surprise",
    "fea": "Fear",
    "dis": "Disgust",
    "fru": "Frustration",
    "exc": "Excited",
    "oth": "Other",
    "xxx": "Neutral state",
}


@dataclasses.dataclass(frozen=True)
class Turn:
    """An utterance; ratings are (valence, activation, dominance) of two evaluators, the order the files have."""

    name: str
    code: str
    ratings: tuple[tuple[int, int, int], tuple[int, int, int]]
    words: str

    @property
    def mean(self):
        return np.mean(self.ratings, axis=0)


def write_corpus(folder: Path) -> list[Turn]:
    """Writes five sessions with an improvised and a scripted dialog each; returns every utterance."""
    made = []
    for session in range(1, 6):
        for dialog in (f"Ses{session:02d}F_impro01", f"Ses{session:02d}M_script01_1b"):
            turns = [_turn(session, dialog, number) for number in range(len(CODES))]
            _write_dialog(folder / f"Session{session}", dialog, turns)
            made += turns
    first = folder / "Session1"
    evaluations = first / "dialog" / "EmoEvaluation"
    (evaluations / "._Ses01F_impro01.txt").write_bytes(b"macOS")
    (evaluations / "Categorical").mkdir()
    (evaluations / "Categorical" / "Ses01F_impro01_e2_cat.txt").write_text("Ses01F_impro01_F000 :Neutral state; ()")
    (first / "sentences" / "wav" / "Ses01F_impro01" / f"{made[1].name}.wav").unlink()
    return made


def _turn(session: int, dialog: str, number: int) -> Turn:
    random = np.random.default_rng([session, number, len(dialog)])
    ratings = tuple(tuple(int(value) for value in random.integers(1, 6, 3)) for _ in range(2))
    number_part = f"XX{number}" if number == 4 else f"{number:03d}"
    name = f"{dialog}_{'FM'[number % 2]}{number_part}"
    return Turn(name, CODES[number], ratings, "" if number == 2 else f"words of turn {number}")


def _write_dialog(session: Path, dialog: str, turns: list[Turn]) -> None:
    wav = session / "sentences" / "wav" / dialog
    evaluations, transcriptions = session / "dialog" / "EmoEvaluation", session / "dialog" / "transcriptions"
    for directory in (wav, evaluations, transcriptions):
        directory.mkdir(parents=True, exist_ok=True)
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for number, turn in enumerate(turns):
        valence, activation, dominance = turn.mean
        vector = f"[{valence:.4f}, {activation:.4f}, {dominance:.4f}]"
        lines.append(f"[{number}.2901 - {number + 1}.2357]\t{turn.name}\t{turn.code}\t{vector}")
        both = f"{WRITTEN[turn.code]}; Frustration;" if number == 0 else f"{WRITTEN[turn.code]};"
        lines += [f"C-E2:\t{WRITTEN[turn.code]};\t()", f"C-E3:\t{both}\t()", "C-F1:\tSurprise;\t()"]
        for evaluator, (v, a, d) in enumerate(turn.ratings):
            lines.append(f"A-E{evaluator + 2}:\tval {v}; act {a}; dom  {d};\t()")
        lines += ["A-F1:\tval 1; act 1; dom  1;\t()", "A-E4:\tval ; act ; dom  ;\t()", ""]
        random = np.random.default_rng(number)
        samples = random.normal(0, 0.05, 6_000 + 500 * number)
        soundfile.write(wav / f"{turn.name}.wav", samples, 16_000, subtype="PCM_16")
    (evaluations / f"{dialog}.txt").write_text("\n".join(lines))
    words = [f"{t.name} [006.2901-008.2357]: {t.words}" for t in turns if t.words]
    text = "\n".join([*words, "M: not a turn", f"{dialog}_MXX9: no times"]).replace("turn 3", "turn 3 café")
    (transcriptions / f"{dialog}.txt").write_bytes(text.encode("latin-1"))
