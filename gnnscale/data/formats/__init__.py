"""Graphs from files of arrays."""
