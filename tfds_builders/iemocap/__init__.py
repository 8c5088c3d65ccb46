"""IEMOCAP, built from a licensed copy."""
