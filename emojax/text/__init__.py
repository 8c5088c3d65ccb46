"""Transcripts as token ids."""

from emojax.text.tokenizer import Tokenizer as Tokenizer
from emojax.text.tokenizer import load_tokenizer as load_tokenizer
