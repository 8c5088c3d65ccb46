"""Made the Opus files and `metadata.csv` of this folder from the FLAC copy; kept as the record of how.

    python -m tfds_builders.emodb.encode_opus --source=FOLDER

FOLDER holds `metadata.csv` (file, speaker, gender, age, emotion, text, recognised_pct, natural_pct, split) and the FLAC
files it names, 16 kHz mono. About 4 MB come out of 22 MB.
"""

import argparse
import csv
from pathlib import Path

import soundfile

from emojax.types import SAMPLE_RATE
from tfds_builders.emodb.recordings import AUDIO, FOLDER, METADATA

_COMPRESSION_LEVEL = 0.92
"""For libsndfile's Opus: 1 is 6 kbit/s, 0 is 256 kbit/s; this is about 26 kbit/s."""


def main() -> None:
    """Encodes every recording and writes the table beside them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    source = parser.parse_args().source
    (FOLDER / AUDIO).mkdir(exist_ok=True)
    with (source / METADATA).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        samples, rate = soundfile.read(source / row["file"], dtype="float32")
        if rate != SAMPLE_RATE or samples.ndim != 1:
            raise SystemExit(f"{row['file']}: {rate} Hz, shape {samples.shape}; needed: {SAMPLE_RATE} Hz mono")
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
