"""Computes hidden states of encoders, or outputs of teachers, for every utterance of a corpus, into a feature store."""

from emojax.extraction.config import ExtractConfig, TeacherCacheConfig, parse_extraction
from emojax.extraction.filling import StoreRun
from emojax.extraction.run import extract_store

__all__ = ["ExtractConfig", "StoreRun", "TeacherCacheConfig", "extract_store", "parse_extraction"]
