"""Measures models under the conditions of a grid on splits of a corpus, and writes results, plots and a page."""

import dataclasses
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh

from emojax.data import Corpus, choose_categories, open_corpus, read_index, with_speaker_splits
from emojax.errors import ConfigError, EmojaxError
from emojax.files import atomic_write
from emojax.interruption import Interruption
from emojax.model_tests.utterances import utterances_of
from emojax.parallel import MeshConfig, make_mesh
from emojax.reporting.evaluate import evaluation_directory, file_name
from emojax.reporting.plots import save_figure
from emojax.robustness.config import RobustnessGridConfig
from emojax.robustness.measure import measure_grid
from emojax.robustness.models import is_workdir, open_models
from emojax.robustness.page import render_grid_page
from emojax.robustness.plots import draw_levels, draw_rooms_and_channels
from emojax.robustness.results import GridResults, summary_lines, write_results
from emojax.robustness.sounds import find_talkers, load_sounds
from emojax.workdir import hold, read_config, read_corpus_metadata

FOLDER = "robustness"
"""Folder of the results in a workdir."""

PAGE = "robustness.html"


@dataclasses.dataclass(frozen=True)
class GridOutcome:
    """Outcome of a grid.

    Attributes:
      grids: results of each split; those before an interruption.
      interrupted_by: signal that stopped it; None if it is finished.
    """

    grids: tuple[GridResults, ...]
    interrupted_by: signal.Signals | None = None


def run_robustness(
    workdir: Path,
    config: RobustnessGridConfig,
    models: Sequence[str] = (),
    corpus_name: str = "",
    splits: tuple[str, ...] = (),
    data_dir: str = "",
    category_map: Sequence[str] = (),
) -> GridOutcome:
    """Measures models and writes `robustness/CORPUS/SPLIT.json`, `.csv`, plots, and `robustness.html`.

    Args:
      workdir: folder of the results; created if needed.
      config: settings of the grid.
      models: workdirs, `MODULE:NAME` of importable models, `constant`; none: `workdir` is one and is measured.
      corpus_name: corpus; default: the training corpus of the first workdir.
      splits: splits; default: the test splits of the first workdir's config, or all splits of another corpus.
      data_dir: folder of the corpora; default: that of the first workdir's config.
      category_map: pairs `THEIRS:OURS` of a category of the corpus and one of the models.

    Raises:
      EmojaxError: a model, the corpus, a split or a folder of sounds cannot be used; the message is one line.
    """
    if jax.process_count() > 1:
        raise EmojaxError(f"--mode=robustness must run in one process, got {jax.process_count()}")
    names = tuple(models) or (str(workdir),)
    if not models and not workdir.is_dir():
        raise ConfigError(f"--models must name models, since {workdir} is no workdir")
    corpus, tested = _open_corpus(names, corpus_name, data_dir)
    mesh = grid_mesh()
    with hold(workdir), Interruption() as interruption:
        opened = open_models(names, corpus.info, mesh)
        grids: list[GridResults] = []
        for split in splits or tested or tuple(corpus.split_sizes):
            start = time.monotonic()
            least = max(model.min_samples for model in opened)
            utterances = utterances_of(corpus, split, least)
            talkers = find_talkers(corpus, split, config.seed) if "babble" in config.noise.kinds else None
            sounds = load_sounds(config, talkers)
            directory = evaluation_directory(workdir, corpus.info.name, FOLDER)
            content = read_index(corpus, split).content.get("audio", "")
            grid = measure_grid(
                opened, utterances, sounds, config, mesh, directory, interruption, category_map, content
            )
            if grid is None:
                return GridOutcome(tuple(grids), interruption.received)
            grid = dataclasses.replace(grid, seconds=round(time.monotonic() - start, 1))
            _write(directory, file_name(split), grid)
            print("\n".join(summary_lines(grid)), flush=True)
            grids.append(grid)
        page = workdir / PAGE
        with atomic_write(page) as temporary:
            temporary.write_text(render_grid_page(grids), encoding="utf-8")
        print(f"page: {page}", flush=True)
    return GridOutcome(tuple(grids))


def grid_mesh() -> Mesh:
    """Mesh of all devices, or of as many as the largest power of two, over which batches are sharded."""
    devices = jax.devices()
    return make_mesh(MeshConfig(), devices[: 1 << (len(devices).bit_length() - 1)])


def _open_corpus(names: Sequence[str], corpus_name: str, data_dir: str) -> tuple[Corpus, tuple[str, ...]]:
    """Corpus of a grid, and the test splits of the first workdir if it is its training corpus."""
    first = next((Path(name) for name in names if is_workdir(name)), None)
    if first is None:
        if not corpus_name:
            raise ConfigError("--corpus=NAME must be given if no model is a workdir")
        return open_corpus(corpus_name, data_dir), ()
    experiment = read_config(first)
    corpus = open_corpus(corpus_name or experiment.corpus.name, data_dir or experiment.corpus.data_dir)
    if corpus.info.name != read_corpus_metadata(first).info.name:
        return corpus, ()
    corpus = choose_categories(corpus, experiment.corpus.categories)
    return with_speaker_splits(corpus, experiment.corpus.speakers), experiment.corpus.tested_splits


def _write(directory: Path, name: str, grid: GridResults) -> None:
    for what, figure in (
        ("scores", draw_levels(grid, "score")),
        ("relative_loss", draw_levels(grid, "relative_loss")),
        ("rooms_and_channels", draw_rooms_and_channels(grid, "score")),
    ):
        path = directory / f"{name}_{what}.png"
        if figure is None:
            path.unlink(missing_ok=True)  # of an earlier grid
        else:
            directory.mkdir(parents=True, exist_ok=True)
            save_figure(figure, path)
    write_results(directory, name, grid)
