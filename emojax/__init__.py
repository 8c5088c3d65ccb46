"""emojax: activation, valence, dominance and emotion categories from speech, in JAX/Flax."""
