"""Model card: README.md of a workdir, with the YAML front matter that the Hugging Face Hub reads.

Each evaluation writes it anew from the files of the workdir. Its last line has the digest of the lines before; a card
that was edited, or written by hand, does not match and is never overwritten.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from emojax.files import atomic_write
from emojax.models import count_parameters
from emojax.reporting.results import RATING_SCORES, SCORES, Result, by_split, printable, read_run, shared_baselines
from emojax.reporting.table import describe_protocol, describe_split, score_text, shown_scores
from emojax.types import ATTRIBUTES, CorpusInfo
from emojax.workdir import TrainedModel, check_inside

CARD = "README.md"

_DIGEST = re.compile(r"<!-- emojax model card, SHA-256 ([0-9a-f]{64}); an edited card is not overwritten -->\n")

_HUB_LICENCES = re.compile(r"apache-2\.0|mit|bsd-3-clause|cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[34]\.0|unknown")
"""Identifiers of the Hub for licences; any other licence is `other`, with its name."""

_ATTRIBUTE_LABELS = {
    "rated": "attributes are ratings by people",
    "derived": "attributes are derived from other data, not rated by people",
    "none": "no attribute labels",
}

_MAX_TEXT = 2_000

_METRICS = {name: "ccc" for name in SCORES if name.startswith("ccc_")} | {"uar": "recall", "macro_f1": "f1"}
"""Type of a score as the Hub names metrics; UAR is the macro-averaged recall."""


def write_card(trained: TrainedModel) -> Path | None:
    """Writes README.md of an evaluated workdir.

    Args:
      trained: model of the workdir; scores are read from its evaluation files.

    Returns:
      Path of the card; None if there is one that was edited, which stays as it is.

    Raises:
      EmojaxError: the card cannot be written, or is a link that leads out of the workdir.
    """
    path = trained.workdir / CARD
    check_inside(trained.workdir, path)
    if path.exists() and not _is_own(path):
        return None
    text = render_card(trained)
    with atomic_write(path) as temporary:
        temporary.write_text(text + _digest_line(text), encoding="utf-8")
    return path


def render_card(trained: TrainedModel) -> str:
    """The card as Markdown: front matter, model, training data, scores, intended use, limits, loading."""
    name = read_run(trained.workdir).name
    lines = [
        *("---", *front_matter(trained), "---", ""),
        f"# {_escape(name)}",
        "",
        "A speech emotion model, trained or converted with emojax (JAX/Flax). This card is written by its evaluation.",
        *("", *describe_model(trained)),
        *("", "## Use", "", "```python", "import emojax", "", 'model = emojax.load("PATH/TO/THIS/FOLDER")'),
        'prediction = model.predict("clip.wav")',
        "prediction.attributes  # by name, in the scale above",
        "prediction.emotions  # probability by category",
        *("```", "", "`python -m emojax predict WORKDIR clip.wav` prints the same as CSV.", ""),
    ]
    return "\n".join(lines)


def describe_model(trained: TrainedModel) -> list[str]:
    """Sections of a card on the model, its training data, scores, intended use and limits, as lines of Markdown."""
    results = list(read_run(trained.workdir).results)
    return [
        *("## Model", "", *_model_lines(trained)),
        *("", "## Training data", "", *_data_lines(trained)),
        *("", "## Scores", "", *_score_lines(results)),
        *("", "## Intended use", ""),
        "Research on speech emotion: estimates of how listeners rate utterances like those of the training data. The",
        "outputs describe the expression in a recording, not what a speaker feels. Not intended for decisions about",
        "people, nor for emotion recognition at the workplace or in education, which laws may forbid.",
        *("", "## Limits", "", *_limit_lines(trained, results)),
    ]


def front_matter(trained: TrainedModel, library: str = "emojax") -> list[str]:
    """Lines of YAML that the Hugging Face Hub reads.

    Args:
      trained: model of a workdir.
      library: library that loads the files, as the Hub names it.
    """
    run = read_run(trained.workdir)
    name, results = run.name, list(run.results)
    info = trained.metadata.info
    licence = info.licence.lower().replace(" ", "-")
    listed = _HUB_LICENCES.fullmatch(licence) is not None
    lines = [f"license: {licence}"] if listed else ["license: other", f"license_name: {_yaml(info.licence)}"]
    scores = shown_scores(results)
    lines += [f"library_name: {library}", "pipeline_tag: audio-classification", "tags:"]
    tags = ["speech", "speech-emotion-recognition", "emotion-recognition"]
    tags += ["jax", "flax"] if library == "emojax" else []
    lines += [f"- {tag}" for tag in [*tags, *_outputs(trained)[0]]]
    if scores:
        lines += ["metrics:", *(f"- {metric}" for metric in dict.fromkeys(_METRICS[score] for score in scores))]
        lines += ["model-index:", f"- name: {_yaml(name)}", "  results:"]
    for result in results:
        if not result.scores:
            continue
        lines += ["  - task:", "      type: audio-classification", "      name: Speech emotion recognition"]
        lines += ["    dataset:", f"      name: {_yaml(result.corpus)}", f"      type: {_yaml(result.corpus)}"]
        lines += [f"      split: {_yaml(result.split)}", "    metrics:"]
        for score in shown_scores([result]):
            lines += [f"    - type: {_METRICS[score]}", f"      name: {SCORES[score]}"]
            lines += [f"      value: {result.scores[score].value:.4f}"]
    return lines


def _model_lines(trained: TrainedModel) -> list[str]:
    model, info = trained.config.model, trained.metadata.info
    attributes, categories = _outputs(trained)
    described = {
        "log_mel": "log-mel filterbank energies of the audio",
        "acoustic": f"hidden states of the speech encoder `{_code(model.acoustic.checkpoint)}`",
        "lexical": f"hidden states of the text encoder `{_code(model.lexical.checkpoint)}` of the transcript",
    }
    audio = "16 kHz mono audio (other rates and channels are converted)"
    inputs = [audio] if model.modalities != ("lexical",) else []
    inputs += ["transcript"] if "lexical" in model.modalities else []
    lines = [
        f"- Inputs: {', '.join(inputs)}.",
        f"- Features: {'; '.join(described[modality] for modality in model.modalities)}.",
    ]
    if attributes:
        low, high = info.scale
        order = ", ".join(ATTRIBUTES)
        lines.append(
            f"- Attributes: {', '.join(attributes)}, on the scale {low:g} to {high:g} of the training corpus (arrays "
            f"have the order {order})."
        )
    if attributes and model.rating_bins:
        lines.append(
            f"- Distributions: each attribute is the mean of a predicted distribution over {model.rating_bins} values "
            "of the scale, those that raters choose from; predictions have its standard deviation and quantiles."
        )
    if categories:
        lines.append(f"- Categories, in this order: {', '.join(map(_escape, categories))}.")
    stored = [modality for modality in model.encoder_modalities if modality not in trained.online]
    size = f"{count_parameters(trained.variables['params']):,} parameters"
    size += f", without the {' and '.join(stored)} encoder, whose hidden states are read from a store" if stored else ""
    lines.append(f"- Size: {size}; checkpoint of step {trained.step}.")
    return lines


def _data_lines(trained: TrainedModel) -> list[str]:
    info, config = trained.metadata.info, trained.config
    if not trained.metadata.labels_known:
        lines = [
            "- The model was published elsewhere and converted; its training data and labels are not known here.",
            f"- Corpus, as the card of the published model names it: {_escape(info.name)}.",
            f"- Licence of the published model: {_escape(info.licence)}.",
        ]
        return lines + ([f"- Citation: {_escape(info.citation)}"] if info.citation else [])
    lines = [f"- Corpus: {_escape(info.name)}; {_speech(info)} speech; {_ATTRIBUTE_LABELS[info.attribute_source]}."]
    if "lexical" in config.model.modalities and config.model.lexical.transcripts:
        lines.append(f"- Transcripts: of a speech recognizer (`{_code(config.model.lexical.transcripts)}`).")
    if config.objective.confidence != "none":
        lines.append(f"- Labels were weighted by the confidence in them (`{config.objective.confidence}`).")
    if config.distillation.on:
        source = config.teacher.workdir or config.teacher.cache or config.teacher.states
        lines.append(f"- Distilled from the outputs of another model (`{_code(source)}`), beside or instead of labels.")
    lines.append(f"- Licence of the corpus, which may restrict the use of the model: {_escape(info.licence)}.")
    lines += [f"- Citation: {_escape(info.citation)}"] if info.citation else []
    return lines


def _score_lines(results: list[Result]) -> list[str]:
    if not results:
        return ["Not evaluated."]
    lines = ["Scores over all utterances of a split, with 95 % bootstrap intervals."]
    for same_split in by_split(results).values():
        names = shown_scores(same_split)
        lines += ["", f"**{_escape(describe_split(same_split))}**", ""]
        lines += [f"| | {' | '.join(SCORES[name] for name in names)} |", "|---" * (len(names) + 1) + "|"]
        rows = [("this model", result.scores) for result in same_split] + shared_baselines(same_split)
        for title, scores in rows:
            cells = [" ".join(filter(None, score_text(scores.get(name)))) for name in names]
            lines.append(f"| {_escape(title)} | {' | '.join(cells)} |")
        lines += ["", *(_escape(describe_protocol(result)) + "." for result in same_split)]
        lines += [line for result in same_split for line in _rating_lines(result)]
    return lines


def _rating_lines(result: Result) -> list[str]:
    """Scores of predicted distributions of ratings, as a table; [] without any."""
    names = [name for name in RATING_SCORES if any(name in scores for scores in result.ratings.values())]
    if not names:
        return []
    lines = ["", f"| distributions of ratings | {' | '.join(RATING_SCORES[name] for name in names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for attribute, scores in result.ratings.items():
        cells = [f"{scores[name]:.3f}" if name in scores else "–" for name in names]
        lines.append(f"| {attribute} | {' | '.join(cells)} |")
    return lines


def _limit_lines(trained: TrainedModel, results: list[Result]) -> list[str]:
    info = trained.metadata.info
    lines = ["- Scores hold for the corpora and splits above; other languages, microphones and populations may differ."]
    if info.speech == "synthesised" or any(result.speech == "synthesised" for result in results):
        lines.append("- Synthetic speech was used: its scores are no evidence about natural speech.")
    if info.attribute_source == "derived":
        lines.append("- Attribute labels are derived, not rated: agreement with listeners is not measured.")
    few = [result for result in results if result.speakers is not None and result.speakers < 10]
    if few:
        least = min(result.speakers or 0 for result in few)
        lines.append(f"- Some splits have few speakers ({least}): intervals describe other speakers badly.")
    lines.append("- Fairness over groups of speakers, and robustness to noise, are not measured by these scores.")
    return lines


def _outputs(trained: TrainedModel) -> tuple[list[str], tuple[str, ...]]:
    """Names of the attributes and the categories that the model predicts."""
    attributes = [name for name, flag in zip(ATTRIBUTES, trained.outputs.attributes, strict=True) if flag]
    return attributes, trained.metadata.info.categories if trained.outputs.categories else ()


def _speech(info: CorpusInfo) -> str:
    return "synthetic" if info.speech == "synthesised" else "recorded"


def _is_own(path: Path) -> bool:
    """Whether a card is as `write_card` wrote it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    found = _DIGEST.search(text)
    return found is not None and found.end() == len(text) and _digest_line(text[: found.start()]) == found[0]


def _digest_line(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"<!-- emojax model card, SHA-256 {digest}; an edited card is not overwritten -->\n"


def _yaml(text: str) -> str:
    return json.dumps(printable(text))


def _escape(text: str) -> str:
    """Text without markup: names come from files of others."""
    return re.sub(r"([\\`*\[\]|<>#])", r"\\\1", printable(text, _MAX_TEXT))


def _code(text: Any) -> str:
    return printable(str(text)).replace("`", "'")
