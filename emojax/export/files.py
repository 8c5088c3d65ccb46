"""What a format gets and what it returns: the model with recordings, and files that were compared with it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from emojax.export.check import ExportError, Parity
from emojax.export.clips import Clip
from emojax.export.description import Description
from emojax.inference import Predictor
from emojax.workdir import TrainedModel


@dataclasses.dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
      trained: model in float32.
      description: its outputs and metadata.
      predictor: the model as reference.
      clips: recordings that files are compared with the model on; the last one is the model's shortest input.
      runtime: folder of the npm package onnxruntime-web, for a page; None: fetched by npm.
    """

    trained: TrainedModel
    description: Description
    predictor: Predictor
    clips: Sequence[Clip]
    runtime: Path | None = None


@dataclasses.dataclass
class Export:
    """Files of a format, in memory until all of them were compared with the model.

    Attributes:
      library: library that loads them, as the Hugging Face Hub names it.
      files: content by path.
      checks: result of the comparison by path.
      notes: what was not exported and why, and limits of the files, one sentence each.
      example: name of the file with the example of the card.
    """

    library: str
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    checks: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    example: str = "example.py"

    def add(self, path: str, content: bytes, check: Callable[[], Parity]) -> None:
        """Compares a file with the model, prints the result, and adds the file.

        Raises:
          ExportError: it differs from the model.
        """
        try:
            self.checks[path] = str(check())
        except ExportError as error:
            raise ExportError(f"{path} {error}; nothing was written") from error
        self.files[path] = content
        print(f"{path}: {len(content) / 1e6:.2f} MB; {self.checks[path]}", flush=True)

    def note(self, text: str) -> None:
        """Adds a sentence, which is printed."""
        self.notes.append(text)
        print(text, flush=True)
