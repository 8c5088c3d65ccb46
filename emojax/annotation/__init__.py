"""Annotation of one recording: segments with attributes, categories and transcripts, and their page."""
