"""Anyone's own corpus: a folder of audio files and a table."""
