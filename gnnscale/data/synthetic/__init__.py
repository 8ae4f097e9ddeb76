"""Graphs that are drawn."""
