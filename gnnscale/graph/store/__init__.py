"""Graphs and clustered graphs in folders of arrays."""
