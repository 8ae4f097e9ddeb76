"""Graphs larger than memory, built from edges in any order by an external sort."""
