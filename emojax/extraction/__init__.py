"""Runs encoders over whole corpora and keeps their states."""

from emojax.extraction.config import ExtractConfig, parse_extraction
from emojax.extraction.run import Extraction, extract_store

__all__ = ["ExtractConfig", "Extraction", "extract_store", "parse_extraction"]
