"""The systems of `make demo`, one after the colon: EmoBank spoken, quick, in networks small enough for a few minutes.

What can be heard (`mfb`, and `acoustic`: states of the small HuBERT), what can be read (`lexical`), both (`fusion`),
and what a student that only hears keeps of that (`student`: the network of `mfb`, taught by `fusion`). scripts/demo.sh
makes the stores and the cache that they read.

python launch.py --config=configs/demo.py:mfb --workdir=runs/demo/mfb
"""

from ml_collections import ConfigDict

from configs import acoustic_emobank, default, fusion_emobank, lexical_emobank, student_ablation, student_emobank

EPOCHS = {"mfb": 3, "lexical": 4, "acoustic": 3, "fusion": 3, "student": 4}
"""Row -> passes over 3,000 sentences: what the time allows; scores would still grow a little."""


def get_config(row: str = "mfb") -> ConfigDict:
    """Returns the config of a system."""
    if row not in EPOCHS:
        raise ValueError(f"demo: {row!r} is no system; allowed: {', '.join(EPOCHS)}")
    if row == "student":
        config = student_ablation.get_config("prediction")
    else:
        module = {"lexical": lexical_emobank, "acoustic": acoustic_emobank, "fusion": fusion_emobank}
        config = module.get(row, student_emobank).get_config()
    student = student_emobank.get_config().model.log_mel
    config.model.log_mel.stack = student.stack
    # So few passes are too few for other voices to pay: without them the student scored .03, .01 and .07 higher, one
    # seed.
    usual = default.get_config().model.log_mel
    config.model.log_mel.update({name: usual[name] for name in student_emobank.OTHER_VOICES})
    for modality in ("log_mel", "acoustic"):
        for field in ("gru_size", "conv_channels", "embedding_size"):
            config.model[modality].network[field] = student.network[field]
    config.corpus.name = "emobank_spoken/quick"
    config.data.bucket_seconds = (5.0,)  # one length is compiled; of longer utterances, training hears any five seconds
    config.training.epochs = EPOCHS[row]
    return config
