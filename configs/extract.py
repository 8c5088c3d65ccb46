"""What `--mode=extract` computes and stores: states of any encoder for every utterance of a corpus.

python launch.py --mode=extract --config=configs/extract.py --workdir=STORE --config.encoder.checkpoint=NAME_OR_PATH
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the defaults."""
    config = ConfigDict()

    config.corpus = ConfigDict()
    # TFDS name of a corpus built with `python -m tfds_builders`: NAME, NAME/CONFIG or NAME/CONFIG:VERSION.
    config.corpus.name = "msp_podcast"
    # Folder that holds NAME/. Empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    config.corpus.data_dir = ""
    # Splits to go through; empty: all.
    config.corpus.splits = ()

    config.encoder = ConfigDict()
    # Folder or Hugging Face name of a HuBERT, wav2vec 2.0, WavLM, BERT or RoBERTa checkpoint.
    config.encoder.checkpoint = ""
    # Branch, tag or commit on the hub; empty: the main branch.
    config.encoder.revision = ""
    # Of matrix products: "float32" or "bfloat16".
    config.encoder.dtype = "float32"
    # Text encoders: tokens a longer transcript is cut to, special tokens included (>= 1).
    config.encoder.max_tokens = 64
    # Seconds of audio (speech encoders, > 0) or tokens (text encoders, >= 1) one device computes at a time, padding
    # included. They change memory and speed, and results by rounding only.
    config.encoder.batch_seconds = 32.0
    config.encoder.batch_tokens = 2048

    config.states = ConfigDict()
    # Layers by number: 0 is what enters the first layer, -1 the encoder's last states.
    config.states.layers = (-1,)
    # Several layers: "stack" them side by side, or store their "mean".
    config.states.combine = "stack"
    # "none": every frame or token; else one vector per utterance: their "mean", or "statistics" (mean and standard
    # deviation, one behind the other).
    config.states.pooling = "none"
    # Stored as "float16", "bfloat16" or "float32".
    config.states.dtype = "float16"
    return config
