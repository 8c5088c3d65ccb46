"""EmoBank sentences and ratings with synthetic speech of hibari-tts and of the Piper voice joe."""
