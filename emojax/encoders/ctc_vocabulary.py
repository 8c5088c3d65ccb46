"""From the CTC labels of a checkpoint to text: `vocab.json` and what the tokenizer's settings say about it."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from emojax.errors import CheckpointError, ConfigError
from emojax.files import read_json_object
from emojax.schema import Ge, Le, parse, settings

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


@settings
class _AddedToken:
    """A token written as a group: its text, beside how it is matched."""

    content: str


_Token = str | _AddedToken | None
_Label = Annotated[int, Ge(0), Le(2**20)]


@settings
class _TokenizerSettings:
    """What is read of `tokenizer_config.json` and `special_tokens_map.json`; defaults: `Wav2Vec2CTCTokenizer`'s."""

    pad_token: _Token = "<pad>"
    unk_token: _Token = "<unk>"
    word_delimiter_token: _Token = "|"
    replace_word_delimiter_char: str = " "
    do_lower_case: bool = False
    clean_up_tokenization_spaces: bool | None = False
    target_lang: str | None = None
    added_tokens_decoder: Mapping[str, str | _AddedToken] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        """Checks the labels of added tokens.

        Raises:
          ConfigError: naming the label.
        """
        for label in self.added_tokens_decoder:
            if not label.isdecimal() or len(label) > 7:
                raise ConfigError(f"added_tokens_decoder: {label[:40]!r} must be an integer label")


@settings
class _Labels:
    """A map from tokens to labels, as `vocab.json` and `added_tokens.json` hold it."""

    labels: Mapping[str, _Label]


def read_ctc_vocabulary(folder: Path) -> CTCVocabulary:
    """The vocabulary of a checkpoint folder.

    Reads `vocab.json`, and where they exist `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`.

    Raises:
      CheckpointError: `vocab.json` is absent or no map from tokens to labels, or holds several languages and the
        settings name none of them; or a setting is of a wrong type.
    """
    named = folder / "tokenizer_config.json"
    tree = {**_optional(folder / "special_tokens_map.json"), **_optional(named)}
    found = parse(_TokenizerSettings, tree, str(named), error=CheckpointError, unknown="ignore", missing="default")
    tokens = {int(label): _text(token, "") for label, token in found.added_tokens_decoder.items()}
    added = folder / "added_tokens.json"
    tokens.update({label: token for token, label in _labels(_optional(added), added).items()})
    tokens.update({label: token for token, label in _vocabulary(folder / "vocab.json", found.target_lang).items()})
    return CTCVocabulary(
        tokens=tokens,
        blank=_text(found.pad_token, "<pad>"),
        unknown=_text(found.unk_token, "<unk>"),
        word_delimiter=_text(found.word_delimiter_token, "|"),
        space=found.replace_word_delimiter_char,
        lower_case=found.do_lower_case,
        tighten=bool(found.clean_up_tokenization_spaces),
    )


def _vocabulary(file: Path, language: str | None) -> Mapping[str, int]:
    vocabulary: Any = read_json_object(file)
    if language is not None:
        if language not in vocabulary:
            raise CheckpointError(f"{file}: must have target_lang {language[:40]!r}, has {', '.join(vocabulary)[:200]}")
        vocabulary = vocabulary[language]
    return _labels(vocabulary, file)


def _labels(tree: Any, file: Path) -> Mapping[str, int]:
    return parse(_Labels, {"labels": tree}, str(file), error=CheckpointError).labels


def _optional(file: Path) -> dict[str, Any]:
    return read_json_object(file) if file.is_file() else {}


def _text(token: _Token, default: str) -> str:
    return default if token is None else token if isinstance(token, str) else token.content
