"""TFDS builders of corpora with a common schema, built without TensorFlow: `python -m tfds_builders --list`."""
