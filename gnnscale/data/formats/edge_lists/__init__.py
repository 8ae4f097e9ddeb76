"""Graphs of edges alone, read in a stream."""
