"""Rows and edges sorted, moved and renumbered in place, in a graph built piece by piece.

These are of NumPy arrays, which the host has: there is nothing to choose, and callers take `cpu`.
"""
