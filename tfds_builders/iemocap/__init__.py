"""IEMOCAP, from a licence holder's copy."""
