"""Computes hidden states of encoders, or outputs of teachers, for every utterance of a corpus, into a feature store."""

from emojax.extraction.config import ExtractConfig, TeacherCacheConfig, parse_extraction
from emojax.extraction.run import Extraction, extract_store

__all__ = ["ExtractConfig", "Extraction", "TeacherCacheConfig", "extract_store", "parse_extraction"]
