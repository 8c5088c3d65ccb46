"""EmoBank's sentences and ratings, spoken by espeak-ng."""
