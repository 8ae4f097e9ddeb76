"""Arrow, imported where a table or names of nodes are read: it is 176 MB, and takes 0.2 s."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gnnscale.extras import Lazily

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import compute, csv, feather, ipc, parquet, types
else:
    pyarrow = Lazily("tables", "pyarrow")
    compute, csv, feather, ipc, parquet, types = (
        Lazily("tables", f"pyarrow.{name}")
        for name in ("compute", "csv", "feather", "ipc", "parquet", "types")
    )

__all__ = ["compute", "csv", "feather", "ipc", "parquet", "pyarrow", "types"]
