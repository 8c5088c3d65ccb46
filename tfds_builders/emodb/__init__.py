"""The Berlin Database of Emotional Speech."""
