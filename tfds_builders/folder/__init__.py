"""Builder of user corpora: a folder with audio files and a table."""
