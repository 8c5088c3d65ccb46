"""Encodes the Opus files and `metadata.csv` of this folder from a FLAC copy.

    python -m tfds_builders.emodb.encode_opus --source=FOLDER

FOLDER holds `metadata.csv` (file, speaker, gender, age, emotion, text, recognised_pct, natural_pct, split) and the FLAC
files named in it, 16 kHz mono. The output has about 4 MB, the input 22 MB.
"""

import argparse
import csv
from pathlib import Path

import soundfile

from emojax.types import SAMPLE_RATE
from tfds_builders.emodb.recordings import AUDIO, FOLDER, METADATA

_COMPRESSION_LEVEL = 0.92
"""Compression level of libsndfile's Opus: 1 is 6 kbit/s, 0 is 256 kbit/s; this is about 26 kbit/s."""


def main() -> None:
    """Encodes all recordings and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    source = parser.parse_args().source
    (FOLDER / AUDIO).mkdir(exist_ok=True)
    with (source / METADATA).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        samples, rate = soundfile.read(source / row["file"], dtype="float32")
        if rate != SAMPLE_RATE or samples.ndim != 1:
            raise SystemExit(f"{row['file']}: must be {SAMPLE_RATE} Hz mono, got {rate} Hz, shape {samples.shape}")
        row["file"] = f"{AUDIO}/{Path(row['file']).stem}.opus"
        row["num_samples"] = str(len(samples))
        path = FOLDER / row["file"]
        soundfile.write(path, samples, rate, format="OGG", subtype="OPUS", compression_level=_COMPRESSION_LEVEL)
    with (FOLDER / METADATA).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} files, {sum((FOLDER / row['file']).stat().st_size for row in rows) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
