"""What `--mode=extract` stores of a teacher: its attributes, probabilities and embedding for every utterance.

python launch.py --mode=extract --config=configs/extract_teacher.py --workdir=STORE \
  --config.teacher.workdir=runs/teacher --config.corpus.name=msp_podcast
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the defaults."""
    shared = default.get_config()
    config = ConfigDict()

    config.corpus = ConfigDict()
    # TFDS name of a corpus built with `python -m tfds_builders`: NAME, NAME/CONFIG or NAME/CONFIG:VERSION.
    config.corpus.name = "msp_podcast"
    # Folder that holds NAME/. Empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    config.corpus.data_dir = ""
    # Splits to go through; empty: all.
    config.corpus.splits = ()

    config.teacher = ConfigDict()
    # Workdir of the teacher, or several with commas between: their mean.
    config.teacher.workdir = ""
    # Weight of each of several teachers in the mean (> 0); (): all alike.
    config.teacher.weights = ()
    # Of the teacher's matrix products: "float32" or "bfloat16".
    config.teacher.dtype = "float32"

    # As in configs/default.py: how utterances are read and batched.
    config.data = shared.data
    config.mesh = shared.mesh
    return config
