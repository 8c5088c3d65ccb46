"""Description of a trained model for files that leave emojax: outputs, scale, licence, scores; what can be exported."""

import dataclasses
import json
from typing import Any

from emojax.encoders.speech_encoder import SpeechEncoder
from emojax.encoders.speech_features import PositionalConvolution
from emojax.encoders.whisper_encoder import WhisperEncoder
from emojax.errors import ConfigError
from emojax.inference.stream import check_streaming
from emojax.reporting.results import read_run
from emojax.types import ATTRIBUTES, SAMPLE_RATE
from emojax.workdir import TrainedModel


@dataclasses.dataclass(frozen=True)
class Description:
    """A trained model, as exported files describe it.

    Attributes:
      name: name of its workdir.
      attributes: names of the columns of the output `attributes`: those that were trained; () if none was.
      scale: lowest and highest value of the attributes.
      categories: names of the columns of the output `categories`; () if they were not trained.
      rating_values: values that the output `ratings` has probabilities of, in the scale; () without this output.
      corpus: training corpus with its version.
      licence: licence of the corpus, which may restrict the use of the model.
      citation: reference of the corpus.
      speech: `recorded` or `synthesised`.
      step: step of the checkpoint.
      min_samples: samples of the shortest clip; shorter ones are extended by zeros.
      max_samples: samples of the longest clip; None: no limit but memory.
      window_seconds: length that emojax divides longer clips into, and averages over; 0: it does not.
      scores: of the workdir's evaluations: corpus, split, and scores by name.
    """

    name: str
    attributes: tuple[str, ...]
    scale: tuple[float, float]
    categories: tuple[str, ...]
    rating_values: tuple[float, ...]
    corpus: str
    licence: str
    citation: str
    speech: str
    step: int
    min_samples: int
    max_samples: int | None
    window_seconds: float
    scores: tuple[dict[str, Any], ...] = ()

    @property
    def columns(self) -> list[int]:
        """Columns of the model's attributes that are exported."""
        return [ATTRIBUTES.index(name) for name in self.attributes]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in their order."""
        found = {"attributes": self.attributes, "categories": self.categories, "ratings": self.rating_values}
        return (*(name for name, columns in found.items() if columns), "embedding")

    def tree(self) -> dict[str, Any]:
        """Values for a JSON file."""
        return {"sample_rate": SAMPLE_RATE, "outputs": list(self.outputs), **dataclasses.asdict(self)}

    def texts(self) -> dict[str, str]:
        """The same as texts, each the JSON of its value except for texts themselves."""
        return {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in self.tree().items()
        }


def describe(trained: TrainedModel) -> Description:
    """Describes the model of a workdir.

    Raises:
      ConfigError: it has no output that was trained.
    """
    info, config = trained.metadata.info, trained.config
    attributes = tuple(name for name, flag in zip(ATTRIBUTES, trained.outputs.attributes, strict=True) if flag)
    categories = info.categories if trained.outputs.categories else ()
    if not attributes and not categories:
        raise ConfigError(f"{trained.workdir}: no output was trained (attributes or categories), nothing to export")
    low, high = info.scale
    bins = config.model.rating_bins if attributes else 0
    run = read_run(trained.workdir)
    return Description(
        name=run.name,
        attributes=attributes,
        scale=info.scale,
        categories=categories,
        rating_values=tuple(low + (high - low) * value / (bins - 1) for value in range(bins)),
        corpus=info.name,
        licence=info.licence,
        citation=info.citation,
        speech=info.speech,
        step=trained.step,
        min_samples=trained.model.min_samples,
        max_samples=trained.model.max_samples,
        window_seconds=config.evaluation.window_seconds,
        scores=tuple(
            {
                "corpus": result.corpus,
                "split": result.split,
                "scores": {name: round(score.value, 4) for name, score in result.scores.items()},
            }
            for result in run.results
        ),
    )


def check_waveform_model(trained: TrainedModel) -> None:
    """Checks that a model needs nothing but the waveform.

    Raises:
      ConfigError: it takes transcripts.
    """
    modalities = trained.config.model.modalities
    if "lexical" in modalities:
        raise ConfigError(
            f"{trained.workdir}: takes transcripts (model.modalities={modalities}), and exported files take a waveform "
            'alone; export a model of "log_mel" or "acoustic", such as a student distilled from this one '
            "(docs/distillation.md)"
        )


def check_onnx_model(trained: TrainedModel) -> None:
    """Checks that a model can be written as an ONNX graph.

    Raises:
      ConfigError: it cannot; the message gives the reason and the alternative.
    """
    check_waveform_model(trained)
    modalities = trained.config.model.modalities
    if len(modalities) > 1:
        raise ConfigError(
            f"{trained.workdir}: ONNX export has no fusion (model.modalities={modalities}); --format=stablehlo has"
        )
    if modalities == ("acoustic",):
        module: Any = trained.model.encoders["acoustic"].module
        speech = isinstance(module, SpeechEncoder) and module.config.position is PositionalConvolution
        if not speech and not isinstance(module, WhisperEncoder):
            raise ConfigError(
                f"{trained.workdir}: ONNX export has HuBERT, wav2vec 2.0, WavLM and Whisper encoders, got another "
                "(data2vec-audio); --format=huggingface writes a folder for PyTorch, which exports to ONNX"
            )


def stream_obstacle(trained: TrainedModel) -> str | None:
    """Reason why a model cannot run on a stream; None if it can."""
    try:
        check_streaming(trained.config.model.modalities, trained.config.model.log_mel)
    except ConfigError as error:
        return str(error)
    return None
