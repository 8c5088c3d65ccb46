"""The MSP-Podcast corpus, from a licence holder's copy."""
