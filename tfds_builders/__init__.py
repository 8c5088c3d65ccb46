"""Corpora as TFDS builders with one schema, prepared and read without TensorFlow: `python -m tfds_builders --list`."""
