"""Convolutions: which are propagations, what they read, how far they reach."""
