"""EmoBank sentences and ratings with speech synthesised by espeak-ng."""
