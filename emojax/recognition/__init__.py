"""Speech recognition with published checkpoints: transcripts with times and probabilities."""

from emojax.recognition.loading import load_recognizer as load_recognizer
from emojax.recognition.options import DecodingOptions as DecodingOptions
from emojax.recognition.transcript import Recognizer as Recognizer
from emojax.recognition.transcript import Segment as Segment
from emojax.recognition.transcript import Transcript as Transcript
from emojax.recognition.transcript import Word as Word
