"""Reader of model cards (README.md): licence, citation, training corpus."""

import dataclasses
import re
from pathlib import Path
from typing import Any

UNKNOWN = "unknown"
"""Value of fields that a card does not state."""

_MAX_BYTES = 2**20
_MAX_TEXT = 300
_MAX_CITATION = 2_000

_CORPORA = {"msp_podcast": (1.0, 7.0)}
"""Rating scale of corpora whose models predict attributes mapped to [0, 1]."""


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """Metadata of a published model.

    Attributes:
      licence: licence named by the card, or `unknown`.
      citation: first BibTeX entry of the card, or `unknown`.
      corpus: training corpus in emojax's spelling (`msp_podcast`), or `unknown`.
    """

    licence: str = UNKNOWN
    citation: str = UNKNOWN
    corpus: str = UNKNOWN

    @property
    def scale(self) -> tuple[float, float]:
        """Lowest and highest rating of the corpus; (0, 1), the scale of the outputs, if unknown."""
        return _CORPORA.get(self.corpus, (0.0, 1.0))


def read_card(folder: Path) -> ModelCard:
    """Reads the card of a checkpoint; all fields of a missing or damaged card are `unknown`."""
    from huggingface_hub import metadata_load

    file = folder / "README.md"
    try:
        if file.stat().st_size > _MAX_BYTES:
            return ModelCard()
        text = file.read_text(encoding="utf-8")
        header: Any = metadata_load(file)  # uses YAML's safe loader
    except Exception:  # cards are written by hand; errors in them must not stop an import
        return ModelCard()
    metadata = header if isinstance(header, dict) else {}
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
    """Normalises a name: `owner/MSP-Podcast` to `msp_podcast`."""
    return re.sub(r"\W+", "_", name.rpartition("/")[2].lower()).strip("_")


def _texts(value: Any) -> list[str]:
    """Extracts the non-empty strings of an untrusted value or list, truncated."""
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
