"""Tokens of Whisper checkpoints: text, special tokens, prompts, suppressed tokens and alignment heads."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from emojax.errors import CheckpointError, ConfigError
from emojax.files import read_json, read_json_object
from emojax.recognition.whisper_decoder import Heads
from emojax.schema import Ge, Le, parse, settings

_FIRST_MULTILINGUAL = 51_865
"""Vocabulary size of the smallest multilingual checkpoints; English-only ones have one token less."""

_Id = Annotated[int, Ge(0), Le(2**20)]


@settings
class _GenerationSettings:
    """Keys of `generation_config.json`, or of `config.json` in older and CTranslate2 folders; all are optional."""

    suppress_tokens: tuple[_Id, ...] | None = None
    begin_suppress_tokens: tuple[_Id, ...] | None = None
    suppress_ids: tuple[_Id, ...] | None = None
    suppress_ids_begin: tuple[_Id, ...] | None = None
    alignment_heads: tuple[tuple[_Id, _Id], ...] | None = None
    is_multilingual: bool | None = None


@settings
class _Vocabulary:
    """Map from tokens to ids."""

    tokens: Mapping[str, _Id]


@dataclasses.dataclass(frozen=True, eq=False)
class WhisperTokens:
    """Tokens of one checkpoint.

    Attributes:
      texts: id -> bytes of UTF-8 text; special tokens and time stamps have none.
      end: end of the text.
      start: start of the transcript, the first token of a prompt.
      no_speech: its probability after `start` is that of no speech; None where the vocabulary has no such token.
      no_timestamps: last token of a prompt for text without time stamps; the ids above it are time stamps.
      tasks: `transcribe` and `translate` -> id; empty for English-only checkpoints.
      languages: code -> id; empty for English-only checkpoints.
      suppressed: ids that are never predicted.
      suppressed_first: ids that are not predicted first.
      alignment_heads: heads of the decoder whose attention follows the recording; empty where none are published.
    """

    texts: Mapping[int, bytes]
    end: int
    start: int
    no_speech: int | None
    no_timestamps: int
    tasks: Mapping[str, int]
    languages: Mapping[str, int]
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    alignment_heads: Heads = ()

    @property
    def first_timestamp(self) -> int:
        """Id of the time stamp of 0 s."""
        return self.no_timestamps + 1

    def decode(self, ids: Iterable[int]) -> str:
        """Decodes text; special tokens and time stamps are skipped, incomplete characters become U+FFFD."""
        return b"".join(self.texts.get(token, b"") for token in ids).decode(errors="replace")

    def prompt(self, language: str, task: Literal["transcribe", "translate"], timestamps: bool) -> tuple[int, ...]:
        """Makes the tokens before the text (Radford et al. 2023, section 2.3).

        Args:
          language: code of a language; ignored for English-only checkpoints.
          task: language of the text.
          timestamps: whether time stamps are predicted.
        """
        prompt = [self.start]
        if self.languages:
            prompt += [self.languages[language], self.tasks[task]]
        return tuple(prompt if timestamps else [*prompt, self.no_timestamps])

    def check(self, language: str, task: str) -> None:
        """Checks that the checkpoint has a language (empty: any) and task.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if not self.languages and (language not in ("", "en") or task != "transcribe"):
            field, got = ("task", task) if task != "transcribe" else ("language", language)
            allowed = "'transcribe'" if field == "task" else "'' or 'en'"
            raise ConfigError(f"decoding.{field} must be {allowed} for an English-only checkpoint, got {got!r}")
        if self.languages and language and language not in self.languages:
            codes = ", ".join(sorted(self.languages))
            raise ConfigError(f"decoding.language must be empty or one of {codes}, got {language!r}")


def read_whisper_tokens(folder: Path, vocab_size: int) -> WhisperTokens:
    """Reads the tokens of a checkpoint folder.

    Text from `tokenizer.json`, or `vocab.json` and `added_tokens.json`, or the `vocabulary.json` or `vocabulary.txt` of
    CTranslate2; suppressed tokens and alignment heads from `generation_config.json`, otherwise `config.json`.

    Args:
      folder: folder of the checkpoint.
      vocab_size: rows of the token embeddings.

    Raises:
      CheckpointError: a file is absent or damaged, or a special token is missing.
    """
    file, ids = _read_vocabulary(folder)
    found = _read_generation(folder)

    def special(*names: str) -> int:
        for name in names:
            if name in ids and ids[name] < vocab_size:
                return ids[name]
        raise CheckpointError(f"{file}: must have the token {names[0]} with an id below {vocab_size}")

    multilingual = vocab_size >= _FIRST_MULTILINGUAL if found.is_multilingual is None else found.is_multilingual
    languages = {match[1]: ids[token] for token in ids if (match := re.fullmatch(r"<\|([a-z]{2,3})\|>", token))}
    tasks = {task: f"<|{task}|>" for task in ("transcribe", "translate")}
    no_speech = next((ids[name] for name in ("<|nospeech|>", "<|nocaptions|>") if name in ids), None)
    return WhisperTokens(
        texts={ids[token]: _bytes(token) for token in ids if not re.fullmatch(r"<\|.*\|>", token)},
        end=special("<|endoftext|>"),
        start=special("<|startoftranscript|>"),
        no_speech=no_speech,
        no_timestamps=special("<|notimestamps|>"),
        tasks={task: special(token) for task, token in tasks.items()} if multilingual else {},
        languages=dict(sorted(languages.items(), key=lambda pair: pair[1])) if multilingual else {},
        suppressed=_below(found.suppress_tokens or found.suppress_ids or (), vocab_size),
        suppressed_first=_below(found.begin_suppress_tokens or found.suppress_ids_begin or (), vocab_size),
        alignment_heads=found.alignment_heads or (),
    )


def _below(ids: tuple[int, ...], vocab_size: int) -> tuple[int, ...]:
    return tuple(sorted({token for token in ids if token < vocab_size}))


def _read_vocabulary(folder: Path) -> tuple[Path, Mapping[str, int]]:
    """Reads a map from tokens to ids, and the file it is from."""
    file = next((folder / name for name in _READERS if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(f"{folder}: must have one of {', '.join(_READERS)} for recognition")
    tree = _READERS[file.name](file)
    return file, parse(_Vocabulary, {"tokens": tree}, str(file), error=CheckpointError).tokens


def _read_tokenizer(file: Path) -> dict[str, Any]:
    content = read_json_object(file)
    model, added = content.get("model"), content.get("added_tokens", [])
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not isinstance(added, list):
        raise CheckpointError(f"{file}: must have model.vocab, a map from tokens to ids, and a list added_tokens")
    named = {entry.get("content"): entry.get("id") for entry in added if isinstance(entry, dict)}
    return {**vocabulary, **{token: number for token, number in named.items() if isinstance(token, str)}}


def _read_vocab(file: Path) -> dict[str, Any]:
    added = file.with_name("added_tokens.json")
    return {**read_json_object(file), **(read_json_object(added) if added.is_file() else {})}


def _read_list(file: Path) -> dict[str, Any]:
    tokens = read_json(file, CheckpointError)
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise CheckpointError(f"{file}: must be a list of tokens")
    return {token: number for number, token in enumerate(tokens)}


def _read_lines(file: Path) -> dict[str, Any]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from error
    return {token: number for number, token in enumerate(lines) if token}


_READERS = {
    "tokenizer.json": _read_tokenizer,
    "vocab.json": _read_vocab,
    "vocabulary.json": _read_list,
    "vocabulary.txt": _read_lines,
}


def _read_generation(folder: Path) -> _GenerationSettings:
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        if file.is_file():
            content = read_json_object(file)
            return parse(
                _GenerationSettings, content, str(file), error=CheckpointError, unknown="ignore", missing="default"
            )
    return _GenerationSettings()


def _bytes(token: str) -> bytes:
    """Decodes the text of a token in a vocabulary of bytes (Radford et al. 2019)."""
    table = _byte_of_character()
    return b"".join(bytes([table[char]]) if char in table else char.encode() for char in token)


@functools.cache
def _byte_of_character() -> Mapping[str, int]:
    """Printable characters of Latin-1 stand for their own byte, the characters from U+0100 on for the other bytes."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (byte for byte in range(256) if byte not in printable)
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + number): byte for number, byte in enumerate(others)}
