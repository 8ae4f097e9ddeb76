"""Graphs from tables in files: edges, nodes, and what nodes are called."""
