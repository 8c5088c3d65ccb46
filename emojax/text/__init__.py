"""Transcripts as token ids."""

from emojax.text.tokenizer import Tokenizer as Tokenizer
