"""Ids numbered as they come: sets of texts and of integers, and edges of such numbers."""
