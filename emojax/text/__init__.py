"""Transcripts as token ids."""

from emojax.text.tokenizer import Tokenizer as Tokenizer
from emojax.text.tokenizer import as_texts as as_texts
from emojax.text.tokenizer import load_tokenizer as load_tokenizer
