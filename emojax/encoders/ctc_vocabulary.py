"""From the CTC labels of a checkpoint to text: `vocab.json` and what the tokenizer's settings say about it."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from emojax.errors import CheckpointError
from emojax.files import read_json_object

# English spacing that `clean_up_tokenization_spaces` undoes in transformers, in its order.
_SPACING = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


@dataclasses.dataclass(frozen=True, eq=False)
class CTCVocabulary:
    """Labels of a CTC head; decoding equals that of `Wav2Vec2CTCTokenizer` in transformers.

    Attributes:
      tokens: label -> token.
      blank: the token that stands for no output.
      unknown: the token of labels that `tokens` does not have.
      word_delimiter: the token between words.
      space: what the delimiter becomes in the text.
      lower_case: whether the text is lower-cased.
      tighten: whether spaces before English punctuation and contractions are removed.
    """

    tokens: Mapping[int, str]
    blank: str
    unknown: str
    word_delimiter: str
    space: str
    lower_case: bool
    tighten: bool

    def decode(self, labels: Iterable[int]) -> str:
        """Text of the best label per frame: repetitions become one, then blanks vanish (Graves et al. 2006)."""
        frames = (self.tokens.get(label, self.unknown) for label in labels)
        tokens = [token for token, _ in itertools.groupby(frames) if token != self.blank]
        text = "".join(self.space if token == self.word_delimiter else token for token in tokens).strip()
        if self.lower_case:
            text = text.lower()
        if self.tighten:
            for spaced in _SPACING:
                text = text.replace(spaced, spaced.strip())
        return text


def read_ctc_vocabulary(folder: Path) -> CTCVocabulary:
    """The vocabulary of a checkpoint folder.

    Reads `vocab.json`, and where they exist `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`.

    Raises:
      CheckpointError: `vocab.json` is absent or no map from tokens to labels, or holds several languages and the
        settings name none of them.
    """
    settings = {**_optional(folder / "special_tokens_map.json"), **_optional(folder / "tokenizer_config.json")}
    tokens: dict[int, str] = {}
    for label, content in settings.get("added_tokens_decoder", {}).items():
        tokens[int(label)] = _content(content)
    tokens.update({label: token for token, label in _optional(folder / "added_tokens.json").items()})
    tokens.update({label: token for token, label in _vocabulary(folder, settings).items()})
    return CTCVocabulary(
        tokens=tokens,
        blank=_content(settings.get("pad_token", "<pad>")),
        unknown=_content(settings.get("unk_token", "<unk>")),
        word_delimiter=_content(settings.get("word_delimiter_token", "|")),
        space=_content(settings.get("replace_word_delimiter_char", " ")),
        lower_case=bool(settings.get("do_lower_case", False)),
        tighten=bool(settings.get("clean_up_tokenization_spaces", False)),
    )


def _vocabulary(folder: Path, settings: Mapping[str, Any]) -> Mapping[str, int]:
    file = folder / "vocab.json"
    vocabulary: Any = read_json_object(file)
    language = settings.get("target_lang")
    if language is not None:
        if language not in vocabulary:
            raise CheckpointError(f"{file}: target_lang: {language!r} is not there; allowed: {', '.join(vocabulary)}")
        vocabulary = vocabulary[language]
    for token, label in vocabulary.items():
        if not isinstance(label, int):
            raise CheckpointError(f"{file}: {token!r}: {str(label)[:40]} is not allowed; allowed: an integer label")
    return vocabulary


def _optional(file: Path) -> dict[str, Any]:
    return read_json_object(file) if file.is_file() else {}


def _content(token: Any) -> str:
    """A token written as text or as a map with its text and how it is matched."""
    return str(token["content"]) if isinstance(token, Mapping) else str(token)
