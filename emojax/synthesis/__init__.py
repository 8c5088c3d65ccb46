"""Speech synthesis with a voice whose pitch, vocal tract, tilt and rate can be set; hibari-tts is optional."""

from emojax.synthesis import hibari_voice as hibari_voice
from emojax.synthesis.source_filter import Frames as Frames
