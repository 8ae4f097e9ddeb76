"""Data sets of the Open Graph Benchmark, read from their raw files."""

from __future__ import annotations

from gnnscale.data.ogb.catalogue import OGBEntry, find_entry, is_ogb

__all__ = ["OGBEntry", "find_entry", "is_ogb"]
