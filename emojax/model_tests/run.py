"""Runs the model tests of a workdir, or of an importable model, on splits of a corpus, and writes the results."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from emojax.data import choose_categories, open_corpus, with_speaker_splits
from emojax.errors import CheckpointError, ConfigError, EmojaxError
from emojax.evaluation.categories import parse_category_map
from emojax.files import atomic_write
from emojax.model_tests.catalogue import CATALOGUE, run_test
from emojax.model_tests.config import ModelTestsConfig
from emojax.model_tests.measurement import Measurement
from emojax.model_tests.model import CONSTANT, Constant, Model, WorkdirModel, import_model
from emojax.model_tests.report import write_tests_page
from emojax.model_tests.results import Result, SplitResults, result_rows, shares_by_group
from emojax.model_tests.utterances import Utterances, utterances_of
from emojax.progress import Progress
from emojax.reporting.evaluate import evaluation_directory, file_name
from emojax.reporting.table import write_csv
from emojax.schema import to_tree
from emojax.workdir import TESTS, hold, read_config, read_corpus_metadata, write_json


def run_model_tests(
    model: Model,
    utterances: Utterances,
    config: ModelTestsConfig | None = None,
    category_map: Sequence[tuple[str, str]] = (),
) -> SplitResults:
    """Runs all tests on one model and the utterances of one split.

    Args:
      model: model under test.
      utterances: utterances of a split.
      config: thresholds and settings; None for the defaults.
      category_map: pairs of a category of the corpus and one of the model that have different names.

    Raises:
      EmojaxError: an output is not finite or has the wrong shape, a clip cannot be read, a folder has no sounds, or
        `category_map` does not fit.
    """
    config = config or ModelTestsConfig()
    measurement = Measurement(model, utterances, config, category_map)
    info = utterances.info
    results: list[Result] = []
    with Progress(f"test {model.name} on {info.name} {utterances.split}", len(CATALOGUE), "tests") as progress:
        measurement.progress = progress
        for test in CATALOGUE:
            results += run_test(test, measurement)
            progress.advance(1, test.name)
    return SplitResults(
        model=model.name,
        corpus=info.name,
        split=utterances.split,
        speech=info.speech,
        attribute_source=info.attribute_source,
        n=len(utterances),
        too_short=utterances.too_short,
        degraded=len(measurement.drawn),
        results=tuple(results),
    )


def run_workdir_tests(
    workdir: Path,
    config: ModelTestsConfig,
    corpus_name: str = "",
    splits: tuple[str, ...] = (),
    data_dir: str = "",
    category_map: Sequence[str] = (),
    predictor: str = "",
) -> list[SplitResults]:
    """Tests the best checkpoint of a workdir and writes `tests/SPLIT.json` and `.csv`, and `tests.html`.

    Args:
      workdir: folder of a run; with `predictor` any folder, which is created.
      config: thresholds and settings.
      corpus_name: a corpus other than the training corpus; its results are written to `tests/CORPUS/`.
      splits: splits; default: the config's test splits, or all splits of another corpus.
      data_dir: folder of the corpora; default: that of the config.
      category_map: pairs `THEIRS:OURS` of a category of the corpus and one of the model.
      predictor: `MODULE:NAME` of an importable model, or `constant`, in place of that of the workdir.

    Raises:
      EmojaxError: workdir, corpus, split or model cannot be used; the message is one line.
    """
    if jax.process_count() > 1:
        raise EmojaxError(f"--mode=test must run in one process, got {jax.process_count()}")
    if predictor and not corpus_name:
        raise ConfigError("--corpus=NAME must be given with --predictor")
    if not predictor and not workdir.is_dir():
        raise CheckpointError(f"{workdir}: no such workdir")
    with hold(workdir):
        tested = list(_test_splits(workdir, config, corpus_name, splits, data_dir, category_map, predictor))
    write_tests_page([workdir], None, "table", sys.stdout, sys.stderr)
    return tested


def _test_splits(
    workdir: Path,
    config: ModelTestsConfig,
    corpus_name: str,
    splits: tuple[str, ...],
    data_dir: str,
    category_map: Sequence[str],
    predictor: str,
) -> Iterator[SplitResults]:
    pairs = parse_category_map(category_map)
    own, transcripts = False, ""
    if predictor:
        corpus = open_corpus(corpus_name, data_dir)
        constant = predictor == CONSTANT
        model: Model = Constant(corpus.info.categories) if constant else import_model(predictor)
        splits = splits or tuple(corpus.split_sizes)
    else:
        experiment = read_config(workdir)
        corpus = open_corpus(corpus_name or experiment.corpus.name, data_dir or experiment.corpus.data_dir)
        own = corpus.info.name == read_corpus_metadata(workdir).info.name
        if own:
            transcripts = experiment.model.lexical.transcripts if "lexical" in experiment.model.modalities else ""
            corpus = choose_categories(corpus, experiment.corpus.categories)
            corpus = with_speaker_splits(corpus, experiment.corpus.speakers)
        model = WorkdirModel(workdir)
        splits = splits or (experiment.corpus.tested_splits if own else tuple(corpus.split_sizes))
    directory = evaluation_directory(workdir, None if own else corpus.info.name, TESTS)
    for split in splits:
        start = time.monotonic()
        utterances = utterances_of(corpus, split, model.min_samples, config.groups, transcripts)
        tested = run_model_tests(model, utterances, config, pairs)
        write_tested(directory, tested, config, time.monotonic() - start)
        yield tested


def write_tested(directory: Path, tested: SplitResults, config: ModelTestsConfig, seconds: float) -> None:
    """Writes SPLIT.csv and SPLIT.json: results, shares of each group, settings, and the time taken.

    Raises:
      EmojaxError: a file cannot be written.
    """
    name = file_name(tested.split)
    path = directory / f"{name}.csv"
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write_csv(result_rows(tested), file)
    shares = {group: to_tree(share) for group, share in shares_by_group(tested.results).items()}
    tree = {**to_tree(tested), "shares": shares, "settings": to_tree(config), "seconds": round(seconds, 1)}
    write_json(directory / f"{name}.json", tree)
