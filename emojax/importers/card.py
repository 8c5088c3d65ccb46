"""What the card of a published model (README.md) says of it: licence, citation, training corpus."""

import dataclasses
import re
from pathlib import Path
from typing import Any

UNKNOWN = "unknown"
"""Whatever a card does not say."""

_MAX_BYTES = 2**20
_MAX_TEXT = 300
_MAX_CITATION = 2_000

_CORPORA = {"msp_podcast": (1.0, 7.0)}
"""Corpora whose models predict attributes mapped to [0, 1], with the scale of their ratings."""


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """Metadata of a published model.

    Attributes:
      licence: as the card names it, `unknown` if it does not.
      citation: the first BibTeX entry of the card, `unknown` without one.
      corpus: what it was trained on, as a corpus is named here (`msp_podcast`); `unknown` if the card does not say.
    """

    licence: str = UNKNOWN
    citation: str = UNKNOWN
    corpus: str = UNKNOWN

    @property
    def scale(self) -> tuple[float, float]:
        """Lowest and highest rating of the corpus; (0, 1), the scale of the outputs, where it is not known."""
        return _CORPORA.get(self.corpus, (0.0, 1.0))


def read_card(folder: Path) -> ModelCard:
    """Reads the card of a checkpoint; one that is absent or damaged says nothing."""
    from huggingface_hub import metadata_load

    file = folder / "README.md"
    try:
        if file.stat().st_size > _MAX_BYTES:
            return ModelCard()
        text = file.read_text(encoding="utf-8")
        found: Any = metadata_load(file)  # reads YAML with its safe loader
    except Exception:  # a card is written by hand: what is wrong with it must not stop an import
        return ModelCard()
    metadata = found if isinstance(found, dict) else {}
    return ModelCard(_licence(metadata), _citation(text), _corpus(metadata))


def _licence(metadata: dict[str, Any]) -> str:
    named, link = metadata.get("license"), metadata.get("license_link")
    if named == "other":
        named = metadata.get("license_name") or (link if isinstance(link, str) else named)
    return ", ".join(_texts(named)) or UNKNOWN


def _corpus(metadata: dict[str, Any]) -> str:
    names = [_corpus_name(name) for name in _texts(metadata.get("datasets"))]
    tagged = [name for name in map(_corpus_name, _texts(metadata.get("tags"))) if name in _CORPORA]
    return "+".join(dict.fromkeys(names or tagged)) or UNKNOWN


def _corpus_name(name: str) -> str:
    """`owner/MSP-Podcast` as `msp_podcast`."""
    return re.sub(r"\W+", "_", name.rpartition("/")[2].lower()).strip("_")


def _texts(value: Any) -> list[str]:
    """The non-empty texts of a value or list, each cut; a list may be long or hold anything."""
    listed = value[:20] if isinstance(value, list) else [value]
    return [" ".join(item.split())[:_MAX_TEXT] for item in listed if isinstance(item, str) and item.strip()]


def _citation(text: str) -> str:
    found = re.search(r"@\w{1,30}\s*\{", text)
    if not found:
        return UNKNOWN
    depth = 0
    for position in range(found.end() - 1, min(len(text), found.start() + _MAX_CITATION)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return " ".join(text[found.start() : position + 1].split())
    return UNKNOWN
