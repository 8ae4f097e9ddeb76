"""Normalization layers, and models with others in their place."""
