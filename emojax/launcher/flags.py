"""Flags of the command, the text of `--help`, the config that flags make, and errors of usage as one line."""

import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from emojax.errors import ConfigError
from emojax.launcher.config_files import find_config_file, import_bundled_configs

HELP = """Trains and evaluates emotion models from a config file.

  python launch.py --config=configs/NAME.py --workdir=DIR [--config.GROUP.FIELD=VALUE ...]
  python launch.py --config=configs/own.py --workdir=DIR --config.corpus.name=NAME [--folds=speaker|NUMBER]
  python launch.py --mode=evaluate --workdir=DIR [--corpus=NAME] [--splits=dev,test] [--category_map=joy:happiness,...]
  python launch.py --mode=test --workdir=DIR [--corpus=NAME] [--splits=test] [--config=configs/model_tests.py]
  python launch.py --mode=robustness --workdir=DIR [--models=RUN,...] [--corpus=NAME] [--config=configs/robustness.py]
  python launch.py --mode=extract --config=configs/extract.py --workdir=STORE [--beam] [--config.GROUP.FIELD=VALUE ...]
  python launch.py --mode=transcribe --config=configs/transcribe.py --workdir=TEXTS [--config.GROUP.FIELD=VALUE ...]
  python launch.py --mode=annotate --workdir=DIR [--output=FOLDER] [--rttm=FILE,...] [--config=annotate] AUDIO ...
  python launch.py --mode=import --config=configs/published.py --workdir=DIR [--config.model.acoustic.checkpoint=NAME]
  python launch.py --mode=pretrain --config=configs/pretrain_hubert.py --workdir=DIR [--config.GROUP.FIELD=VALUE ...]
  python launch.py --mode=quantise --workdir=DIR --output=SMALLER
  python launch.py --mode=export --workdir=DIR --format=onnx|stablehlo|huggingface|web --output=FOLDER [--clips=FILE]
  python launch.py --mode=plan --config=configs/NAME.py --workdir=DIR --topology=v5e:16x16 [--search] [--corpus_hours=N]

Modes:
  train       Trains a model and evaluates its best checkpoint. Continues if DIR has a checkpoint. With --folds: trains
              and evaluates a model for each fold of speakers, pools their predictions, and trains one on everything.
  evaluate    Evaluates the best checkpoint of DIR; the config is read from DIR.
  test        Tests the best checkpoint of DIR for correctness, fairness and robustness (docs/model_tests.md).
  robustness  Measures models under noise, reverberation and channels; results are written to DIR (docs/robustness.md).
              Continues an unfinished grid.
  extract     Stores the outputs of an encoder or a teacher for a corpus. Continues an unfinished store.
  transcribe  Stores transcripts of a corpus by a speech recognizer. Continues an unfinished store.
  annotate    Annotates recordings: segments of speech, speakers, transcripts, emotions over time (docs/annotate.md).
              Continues unfinished work.
  import      Converts a published emotion model to a workdir.
  pretrain    Trains a speech encoder without labels and writes it to DIR/encoder.
  quantise    Writes a workdir with 8-bit weights, which is evaluated and loaded like any other.
  export      Writes the model as files that run without emojax, each compared with it on recordings (docs/export.md).
  plan        Compiles the training step for a TPU slice, without one; reports memory, communication, predicted speed.

Config files: a path, or the name of a config of the package if there is no such file (`mfb` for `configs/mfb.py`).
`python -m emojax config` lists every field with type, bounds, default and meaning; `python -m emojax config optimizer`
those of one group.

Signals: during training, extraction, transcription, annotation and robustness Ctrl-C and SIGTERM save first, and the
same command continues from there. At other times they end the command. A second signal ends it immediately.

Exit status: 0 success (or saved after SIGTERM), 1 an error, reported in one line, 2 wrong usage, 130 ended by Ctrl-C,
143 ended by SIGTERM with nothing saved. Only one command at a time writes to a folder; a second one ends with an error
that names host and process of the first.

Several processes: started by srun or mpirun, or on every host of a TPU slice, the same command runs as one program over
all their devices. Otherwise pass --coordinator=HOST:PORT --num_processes=N --process_id=K to each process.
"""

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, or name of a config of the package; --config.GROUP.FIELD=VALUE sets a field."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_MODE_NAMES = ["train", "evaluate", "test", "robustness", "extract", "transcribe", "annotate"]
_MODE_NAMES += ["import", "pretrain", "quantise", "export", "plan"]
MODE = flags.DEFINE_enum("mode", "train", _MODE_NAMES, "What to do.")
CORPUS = flags.DEFINE_string("corpus", "", "evaluate, test, robustness: a corpus other than the training corpus.")
SPLITS = flags.DEFINE_list("splits", [], "evaluate, test, robustness: splits; default: the test splits of the config.")
CATEGORY_MAP = flags.DEFINE_list(
    "category_map",
    [],
    "evaluate, test, robustness: THEIRS:OURS,... for categories of the corpus that the model has by another name.",
)
TRANSCRIPTS = flags.DEFINE_string(
    "transcripts", "", "evaluate: folder of transcripts of the corpus; default: those of the config, else its own."
)
FOLDS = flags.DEFINE_string(
    "folds", "", "train: cross-validation by speaker; `speaker` for one fold per speaker, or a number of folds."
)
OUTPUT = flags.DEFINE_string("output", "", "quantise, annotate, export: the folder to write.")
RTTM = flags.DEFINE_list("rttm", [], "annotate: RTTM files with the speakers of the recordings.")
FORMAT = flags.DEFINE_enum(
    "format", "onnx", ["onnx", "stablehlo", "huggingface", "web"], "export: format of the files."
)
CLIPS = flags.DEFINE_list(
    "clips",
    [],
    "export: audio files and folders to compare on; default: utterances of the test split of the training corpus.",
)
RUNTIME = flags.DEFINE_string(
    "runtime", "", "export: folder of the npm package onnxruntime-web, for --format=web; default: npm fetches it."
)
TOPOLOGY = flags.DEFINE_string("topology", "", "plan: TPU slice, e.g. v5e:16x16.")
SEARCH = flags.DEFINE_boolean("search", False, "plan: choose mesh, rows per chip and rematerialisation.")
CORPUS_HOURS = flags.DEFINE_float(
    "corpus_hours", 0.0, "plan: hours of the training corpus, for the length of a run; default: MSP-Podcast.", 0.0
)
COORDINATOR = flags.DEFINE_string("coordinator", "", "Several processes: HOST:PORT of process 0.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "Several processes: their number.")
PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Several processes: number of this process, from 0.")
JOIN_SECONDS = flags.DEFINE_integer("join_seconds", 300, "Several processes: time to wait for the others at the start.")
HEARTBEAT_SECONDS = flags.DEFINE_integer(
    "heartbeat_seconds", 100, "Several processes: a process that is silent for this time counts as lost."
)
PREDICTOR = flags.DEFINE_string(
    "predictor", "", "test: MODULE:NAME of an importable model, or constant, in place of that of the workdir."
)
MODELS = flags.DEFINE_list(
    "models",
    [],
    "robustness: models RUN,...: workdirs, MODULE:NAME of importable models, `constant`; default: the workdir itself.",
)
DATA_DIR = flags.DEFINE_string(
    "data_dir", "", "evaluate, test, robustness: folder of the corpora; default: that of the config."
)

BEAM = flags.DEFINE_boolean(
    "beam", False, "extract: compute the shards on the workers of an Apache Beam pipeline (docs/scaling.md)."
)
BEAM_PIPELINE_OPTIONS = flags.DEFINE_string(
    "beam_pipeline_options",
    "",
    "extract: options of the Beam pipeline, with blanks between, e.g. '--runner=FlinkRunner --flink_master=HOST:8081'; "
    "default: this process.",
)

_FLAGS = (
    CONFIG,
    WORKDIR,
    MODE,
    CORPUS,
    SPLITS,
    CATEGORY_MAP,
    FOLDS,
    TRANSCRIPTS,
    OUTPUT,
    RTTM,
    FORMAT,
    CLIPS,
    RUNTIME,
    TOPOLOGY,
    SEARCH,
    CORPUS_HOURS,
    COORDINATOR,
    NUM_PROCESSES,
    PROCESS_ID,
    JOIN_SECONDS,
    HEARTBEAT_SECONDS,
    PREDICTOR,
    MODELS,
    DATA_DIR,
    BEAM,
    BEAM_PIPELINE_OPTIONS,
)
USAGE = 2
"""Exit status of wrong usage."""

_program = "python launch.py"


class UsageError(Exception):
    """A flag that is missing or wrong."""


def program() -> str:
    """The command as a user calls it."""
    return _program


def show_help_of(script: str) -> None:
    """Makes absl print `HELP` and these flags as the help of the script.

    Args:
      script: `sys.argv[0]`.
    """
    global _program
    if not script.endswith(".py"):
        _program = Path(script).name
    sys.modules["__main__"].__doc__ = HELP.replace("python launch.py", _program)
    for flag in _FLAGS:
        flags.FLAGS.register_key_flag_for_module(script, flags.FLAGS[flag.name])


def check_flags_of_mode() -> None:
    """Checks that each flag given is one of the mode: the help of the others begins with the names of their modes.

    Raises:
      UsageError: naming the flag and its modes.
    """
    for flag in _FLAGS:
        named = flags.FLAGS[flag.name].help.partition(":")[0].split(", ")
        if flag.present and set(named) <= set(_MODE_NAMES) and MODE.value not in named:
            raise UsageError(f"--{flag.name} is a flag of --mode={' or '.join(named)}, got --mode={MODE.value}")


def beam_options() -> list[str] | None:
    """Options of the Beam pipeline; None without `--beam`.

    Raises:
      UsageError: options are given without `--beam`.
    """
    if not BEAM.value:
        if BEAM_PIPELINE_OPTIONS.value:
            raise UsageError("--beam_pipeline_options needs --beam")
        return None
    return shlex.split(BEAM_PIPELINE_OPTIONS.value) or ["--runner=DirectRunner"]


def config_tree() -> dict[str, Any]:
    """The config of `--config`, with the fields set by flags, as a tree.

    Raises:
      UsageError: `--config` is missing, or its file returns something else than a config.
    """
    if CONFIG.value is None:
        raise UsageError("--config=configs/NAME.py is missing")
    if not isinstance(CONFIG.value, ConfigDict):
        raise UsageError(
            f"--config: get_config must return an ml_collections.ConfigDict, got {type(CONFIG.value).__name__}"
        )
    return CONFIG.value.to_dict()


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; a wrong one is reported in one line in place of a usage page or a traceback."""
    try:
        import_bundled_configs()
        return flags.FLAGS(_with_found_config(argv))
    except ConfigError as error:
        sys.exit(fail(f"--config={error}", USAGE))
    except FileNotFoundError as error:
        sys.exit(fail(f"--config: {error.filename or error} does not exist", USAGE))
    except flags.UnrecognizedFlagError as error:
        field = f"--{error.flagname}" if error.flagname.startswith("config.") else ""
        needed = f"{field} sets a field of --config=configs/NAME.py, which is missing"
        sys.exit(fail(needed if field else str(error), USAGE))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        # For a field that does not exist ml_collections raises a KeyError, sometimes within an AttributeError, whose
        # second line names the field it may have been; its text is written as Python would, with quotes and \\n.
        cause: Any = error
        while cause.args and isinstance(cause.args[0], Exception):
            cause = cause.args[0]
        message = str(cause.args[0]) if isinstance(cause, KeyError) and cause.args else str(cause)
        lines = [line.strip() for line in message.splitlines() if line.strip()] or [type(error).__name__]
        if isinstance(cause, AttributeError) and cause.name == "get_config":
            lines = ["--config: the file has no function get_config"]
        elif lines[0].endswith(":"):  # what a config file raised comes last
            lines = lines[-1:]
        elif isinstance(cause, KeyError):
            lines[0] = f"--config: has no field {lines[0]}" if lines[0].startswith("'") else f"--config: {cause!r}"
        sys.exit(fail("; ".join(lines), USAGE))
    except Exception as error:  # of the config file's own code
        frame = traceback.extract_tb(error.__traceback__)[-1]
        label = "" if isinstance(error, SyntaxError) else f" ({frame.filename}, line {frame.lineno})"
        sys.exit(fail(f"--config: {type(error).__name__}: {error}{label}", USAGE))


def _with_found_config(argv: list[str]) -> list[str]:
    """The arguments with the path of the config file where `--config` gives the name of a bundled one."""
    found = list(argv)
    for number, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        if word == "--":
            break
        if flag in ("--config", "-config"):
            if equals:
                found[number] = f"{flag}={find_config_file(value)}"
            elif number + 1 < len(argv):
                found[number + 1] = find_config_file(argv[number + 1])
    return found


def fail(message: str, status: int) -> int:
    """Prints an error; returns the status."""
    print(f"error: {message}", file=sys.stderr)
    return status
