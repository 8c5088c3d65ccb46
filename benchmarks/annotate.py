"""Speed and memory of annotating one long MP3 on one core, by stage, compilation excluded.

    python -m benchmarks.annotate [--minutes=60] [--transcripts] [--detector=auto] [--config=configs/student_s.py]
    python -m benchmarks.annotate [--minutes=60] [--transcripts] --workdir=runs/student

The recording is made of the recordings of emodb, with pauses of 0.1 to 2 s (two thirds are speech), at 44.1 kHz. The
student of --config has random weights; --workdir is a trained model. The same recording is annotated once before, so
that all programs are compiled. With --transcripts Whisper tiny.en transcribes it (requirements-weights.txt). Processor
time is that of all threads: other processes on the machine hardly change it.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":  # before any library counts the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from benchmarks.machine import print_processor

_CONFIG = config_flags.DEFINE_config_file("config", "configs/student_s.py", "Student.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Trained model, in place of random weights.")
_MINUTES = flags.DEFINE_float("minutes", 60.0, "Length of the recording.")
_TRANSCRIPTS = flags.DEFINE_bool("transcripts", False, "Recognise a transcript, too.")
_DETECTOR = flags.DEFINE_enum("detector", "auto", ["auto", "silero", "energy"], "Voice activity detector.")
_RECORDINGS = flags.DEFINE_string("recordings", "tfds_builders/emodb", "Folder searched for .opus files.")
_JSON = flags.DEFINE_string("json", "", "Also write the numbers there.")

_RATE = 44_100


def main(argv):
    from emojax.annotation.annotator import Annotator
    from emojax.annotation.config import ActivityConfig, AnnotateConfig
    from emojax.annotation.writing import write_files
    from emojax.parallel import keep_freed_memory, use_compilation_cache

    keep_freed_memory()  # as launch.py does
    use_compilation_cache()
    processor = print_processor()
    config = AnnotateConfig(activity=ActivityConfig(detector=_DETECTOR.value), transcripts=_TRANSCRIPTS.value)
    model, description = trained(_WORKDIR.value) if _WORKDIR.value else student()
    annotator = Annotator(model, description, config)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "talk.mp3"
        write_recording(path, 60 * _MINUTES.value)
        annotator.annotate(path, folder)  # compiles
        clock = StageClock()
        annotation = annotator.annotate(path, folder, report=clock)
        formats = tuple(each for each in config.formats if each != "html")
        write_files(annotation, folder / "talk", formats)
        clock.end("files")
    seconds = annotation.duration
    rows = {**clock.stages, "all": tuple(map(sum, zip(*clock.stages.values(), strict=True)))}
    speech = 100 * annotation.speech_seconds / seconds
    print(f"{seconds / 60:.0f} min, {len(annotation.segments)} segments, {speech:.0f} % speech; {annotator.detector}")
    print("| stage | ms per second of audio | processor ms | times real time (processor time) |\n|---|---|---|---|")
    for stage, (wall, cpu) in rows.items():
        print(f"| {stage} | {1000 * wall / seconds:.2f} | {1000 * cpu / seconds:.2f} | {seconds / cpu:.0f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB")
    if _JSON.value:
        results = {"machine": processor, "audio_seconds": seconds, "peak_mb": peak, "stages": rows}
        Path(_JSON.value).write_text(json.dumps(results, indent=2))


class StageClock:
    """Wall and processor time of each stage, from the reports of an annotator."""

    def __init__(self):
        self.stages = {}
        self._last = time.perf_counter(), time.process_time()

    def __call__(self, stage):
        self.end(stage.name)

    def end(self, name):
        """Adds the time since the last call to a stage."""
        now = time.perf_counter(), time.process_time()
        before = self.stages.get(name, (0.0, 0.0))
        self.stages[name] = tuple(b + n - last for b, n, last in zip(before, now, self._last, strict=True))
        self._last = now


def trained(workdir):
    """The predictor of a workdir, and its description."""
    from emojax.annotation.annotator import describe
    from emojax.inference import load

    predictor = load(workdir)
    return predictor, describe(predictor, Path(workdir).name)


def student():
    """A predictor with random weights, and its description."""
    from emojax.annotation.annotator import describe
    from emojax.config import parse_experiment
    from emojax.inference import Predictor
    from emojax.models import EmotionModel, example_batch
    from emojax.types import CorpusInfo
    from emojax.workdir import TrainedModel, unknown_labels

    config = parse_experiment(_CONFIG.value.to_dict())
    if config.model.encoder_modalities:
        sys.exit("--config must be a student of log-mel energies")
    info = CorpusInfo("none", (0.0, 1.0), (), "recorded", "rated", "", "")
    model = EmotionModel(config.model, 0)
    variables = model.init(jax.random.key(0), example_batch(model))
    predictor = Predictor(TrainedModel(Path(), config, unknown_labels(info), model, variables, 0, ()))
    return predictor, describe(predictor, "student")


def write_recording(path, wanted_seconds):
    import soundfile
    import soxr

    sources = sorted(Path(_RECORDINGS.value).rglob("*.opus"))
    if not sources:
        raise SystemExit(f"--recordings={_RECORDINGS.value}: no .opus file there")
    random, seconds, number = np.random.default_rng(0), 0.0, 0
    with soundfile.SoundFile(path, "w", _RATE, 1, format="MP3", subtype="MPEG_LAYER_III") as file:
        while seconds < wanted_seconds:
            waveform, rate = soundfile.read(sources[number % len(sources)], dtype="float32", always_2d=True)
            pause = np.zeros(int(random.uniform(0.1, 2.0) * _RATE), np.float32)
            part = np.concatenate([soxr.resample(waveform[:, 0], rate, _RATE), pause])
            part += 1e-3 * random.standard_normal(len(part), dtype=np.float32)
            file.write(np.clip(part, -1, 1))
            number, seconds = number + 1, seconds + len(part) / _RATE


if __name__ == "__main__":
    app.run(main)
