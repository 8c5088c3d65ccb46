"""Registry of builders, which the build command reads without importing them."""

import dataclasses
import importlib
from typing import TYPE_CHECKING

from emojax.errors import CorpusError

if TYPE_CHECKING:
    from tfds_builders.builder import CorpusBuilder


@dataclasses.dataclass(frozen=True)
class Entry:
    """Entry of a builder.

    Attributes:
      summary: one-line description.
      configs: names of the builder configs, the default first; empty if there are none.
      needs_manual_dir: whether the corpus is read from the user's `--manual_dir`.
    """

    summary: str
    configs: tuple[str, ...] = ()
    needs_manual_dir: bool = False


ENTRIES = {
    "emobank_spoken": Entry(
        "10,062 English sentences with human ratings of the text, spoken by 48 synthetic talkers",
        configs=("full", "quick", "demo", "fragments"),
    ),
    "emodb": Entry("535 German recordings of 10 actors, 7 categories, no attributes"),
    "folder": Entry(
        "your own corpus: corpus.json, a CSV or JSONL table and audio files (see tfds_builders/folder/README.md)",
        needs_manual_dir=True,
    ),
    "iemocap": Entry(
        "IEMOCAP: 5 sessions, attributes 1 to 5, 10 categories or the usual 4",
        configs=("all", "four", "improvised", "four_improvised"),
        needs_manual_dir=True,
    ),
    "msp_podcast": Entry(
        "MSP-Podcast, any release: podcast segments, attributes 1 to 7 and 9 categories",
        configs=("v1_11", "v1_3", "v1_6", "v1_7", "v1_8", "v1_9", "v1_10", "v1_12", "challenge", "v2_0"),
        needs_manual_dir=True,
    ),
}
"""Builders by name; `NAME` is class `Builder` in `tfds_builders/NAME/NAME_dataset_builder.py`."""


def check_names(name: str, config: str = "") -> None:
    """Checks that a builder and its config exist.

    Raises:
      CorpusError: no such builder or config; the message lists the available ones.
    """
    if name not in ENTRIES:
        raise CorpusError(f"no builder {name!r}; available: {', '.join(sorted(ENTRIES))}")
    configs = ENTRIES[name].configs
    if config and config not in configs:
        raise CorpusError(f"{name}: no config {config!r}; it has {', '.join(configs) or 'no configs'}")


def builder_class(name: str) -> "type[CorpusBuilder]":
    """Imports a builder.

    Raises:
      CorpusError: no such builder.
    """
    check_names(name)
    return importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder").Builder
