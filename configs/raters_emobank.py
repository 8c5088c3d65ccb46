"""Ratings of single readers on EmoBank spoken: distributions of ratings, and labels weighted by confidence.

After the colon: the input, `log_mel`, `acoustic` (frames of a frozen Whisper), `pooled` (its statistics) or `fusion`
(these and frozen MiniLM), and the use of the readers: `none` (the config of the input alone),
`distribution` (five values per attribute, cross-entropy beside the CCC of the mean), `confidence` (labels weighted by
the inverse variance of the readers, which is known of every sentence), or `both`. The histograms of the readers are
written to a table first (docs/raters.md); `none` and `confidence` do not need it.

python -m tfds_builders.emobank_spoken.reader_ratings stores/readers.csv
python launch.py --config=configs/raters_emobank.py:log_mel,distribution --workdir=runs/raters \
  --config.corpus.ratings=stores/readers.csv
"""

from ml_collections import ConfigDict

from configs import acoustic_emobank, mfb_emobank, pooled_emobank

INPUTS = {
    "log_mel": mfb_emobank.get_config,
    "acoustic": acoustic_emobank.get_config,
    "pooled": lambda: pooled_emobank.get_config("acoustic"),
    "fusion": lambda: pooled_emobank.get_config("fusion"),
}
"""Config without readers by input."""

USES = ("none", "distribution", "confidence", "both")


def get_config(system: str = "log_mel,distribution") -> ConfigDict:
    """Returns the config of an input and a use of the readers."""
    name, _, use = system.partition(",")
    if name not in INPUTS or use not in USES:
        inputs, uses = ", ".join(INPUTS), ", ".join(USES)
        raise ValueError(f"raters_emobank: system must be one of {inputs}, a comma, and one of {uses}; got {system!r}")
    config = INPUTS[name]()
    if use in ("distribution", "both"):
        config.model.rating_bins = 5
        config.objective.rating_weight = 0.2
    if use in ("confidence", "both"):
        config.objective.confidence = "inverse_variance"
    return config
