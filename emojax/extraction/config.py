"""Settings of an extraction: hidden states of an encoder, or outputs of a teacher."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.data import DataConfig
from emojax.parallel import MeshConfig
from emojax.schema import Ge, Gt, Le, MaxLen, MinLen, parse, settings


@settings
class ExtractCorpusConfig:
    """Corpus and splits to read."""

    name: Annotated[str, MinLen(1), "TFDS name of a built corpus: NAME, NAME/CONFIG or NAME/CONFIG:VERSION."] = (
        "msp_podcast"
    )
    data_dir: Annotated[str, "Folder that holds NAME/; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets."] = ""
    splits: Annotated[tuple[str, ...], "Splits to read; empty: all."] = ()


@settings
class ExtractEncoderConfig:
    """Encoder that computes the hidden states."""

    checkpoint: Annotated[
        str,
        MinLen(1),
        "Folder, `package:NAME/FOLDER` or Hugging Face name of a checkpoint of any encoder in docs/encoders.md.",
    ] = ""
    revision: Annotated[str, "Branch, tag or commit on the hub; empty: the main branch."] = ""
    dtype: Annotated[Literal["float32", "bfloat16"], "Type of matrix products."] = "float32"
    max_tokens: Annotated[
        int, Ge(1), Le(8192), "Text encoders: tokens that a transcript is cut to, special tokens included."
    ] = 64
    transcripts: Annotated[
        str,
        "Text encoders: folder of transcripts that `--mode=transcribe` wrote, in place of the corpus's own; empty: the "
        "corpus's own.",
    ] = ""
    padded: Annotated[
        bool,
        "Whisper: whether every clip is padded by silence to 30 s, as in pre-training and as published; all 1500 "
        "frames are hidden states, those of silence included. False: each clip at its own length, which costs less.",
    ] = False
    batch_seconds: Annotated[
        float,
        Gt(0),
        Le(10**5),
        "Speech encoders: audio that one device computes at a time (s), padding included; results change by rounding "
        "only.",
    ] = 32.0
    batch_tokens: Annotated[
        int, Ge(1), Le(10**7), "Text encoders: tokens that one device computes at a time, padding included."
    ] = 2048


@settings
class StatesConfig:
    """Which hidden states are stored, and how."""

    layers: Annotated[
        tuple[Annotated[int, Ge(-1000), Le(1000)], ...],
        MaxLen(256),
        "Layers by number: 0 is the input of the first layer, -1 the encoder's last hidden states; (): all of them.",
    ] = (-1,)
    combine: Annotated[Literal["stack", "mean"], 'Of several layers: "stack" stores each, "mean" their mean.'] = "stack"
    pooling: Annotated[
        Literal["none", "mean", "statistics"],
        '"none": every frame or token; else one vector per utterance: the "mean", or "statistics" (mean and standard '
        "deviation, concatenated).",
    ] = "none"
    dtype: Annotated[Literal["float16", "bfloat16", "float32"], "Type of the stored values."] = "float16"


@settings
class ExtractConfig:
    """Everything that determines a feature store."""

    corpus: ExtractCorpusConfig
    encoder: ExtractEncoderConfig
    states: StatesConfig


@settings
class CachedTeacherConfig:
    """Model, or models, whose outputs are cached."""

    workdir: Annotated[str, MinLen(1), "Workdir of the teacher, or several with commas between: their mean."] = ""
    weights: Annotated[
        tuple[Annotated[float, Gt(0)], ...], "Weight of each of several teachers in the mean; (): equal."
    ] = ()
    dtype: Annotated[Literal["float32", "bfloat16"], "Type of the teacher's matrix products."] = "float32"
    transcripts: Annotated[
        str,
        "Folder of transcripts that `--mode=transcribe` wrote, for teachers with a lexical modality; empty: the "
        "corpus's own.",
    ] = ""


@settings
class TeacherCacheConfig:
    """Everything that determines a cache of teacher outputs; batches and mesh are those of one process."""

    corpus: ExtractCorpusConfig
    teacher: CachedTeacherConfig
    data: DataConfig
    mesh: MeshConfig


def parse_extraction(tree: Mapping[str, Any]) -> ExtractConfig | TeacherCacheConfig:
    """Checks a config tree whole: of a teacher where it has the group `teacher`, else of an encoder.

    Raises:
      ConfigError: one line naming the key, what is wrong with it and what is allowed.
    """
    return parse(TeacherCacheConfig, tree) if "teacher" in tree else parse(ExtractConfig, tree)
