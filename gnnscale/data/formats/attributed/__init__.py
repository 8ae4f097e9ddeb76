"""Graphs whose nodes and edges have attributes by name."""
