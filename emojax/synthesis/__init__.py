"""Speech synthesis with a voice whose pitch, vocal tract, tilt and rate can be set; hibari-tts is optional."""
