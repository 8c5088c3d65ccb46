"""Transcribes the recordings of a corpus with a speech recognizer, into a store of transcripts."""

from emojax.transcription.config import TranscribeConfig, parse_transcription
from emojax.transcription.run import Transcription, transcribe_corpus, transcribe_with

__all__ = ["TranscribeConfig", "Transcription", "parse_transcription", "transcribe_corpus", "transcribe_with"]
