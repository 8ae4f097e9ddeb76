"""Files that nothing here reads, by their first bytes: what they are, and what to do instead."""

from __future__ import annotations

import re
from pathlib import Path

from gnnscale.errors import InputError

#: What becomes of tables in a file of another kind.
TO_TABLES = "save its tables as CSV or Parquet and give them to gnnscale.from_edge_list"
UNPACK = "unpack it, and give the folder or file that was in it"
NO_CODE = (
    "a pickle runs what is written in it when it is loaded, so gnnscale loads none. Where it was "
    "made, save a table as Parquet, or a graph's arrays: numpy.savez(path, edge_index=…, x=…, y=…)"
)
_PAGE = "download the file itself: this is the page about it"
_KINDS = (
    (rb"SQLite format 3\0", ("an SQLite database", TO_TABLES)),
    (rb"\x89HDF", ("an HDF5 file", "give what pandas.read_hdf or h5py read of it")),
    (
        rb"\x93NUMPY",
        ("an array of NumPy's", "give numpy.load(…), or features= and labels= the path"),
    ),
    (rb"ORC(?s:.{,28})[\0-\x08]", ("an ORC file", "give pyarrow.orc.read_table(…)")),
    (rb"Obj\x01", ("an Avro file", "convert it to Parquet")),
    (rb"MATLAB 5\.0", ("a MATLAB file", "give arrays that scipy.io.loadmat reads of it")),
    (rb"\x80[\x02-\x05]", ("a pickle", NO_CODE)),
    (rb"\xd0\xcf\x11\xe0", ("an old Excel workbook", TO_TABLES)),
    (rb"7z\xbc\xaf", ("packed by 7-Zip", UNPACK)),
    (rb"Rar!\x1a", ("packed by RAR", UNPACK)),
    (rb"%PDF", ("a PDF", "give the data")),
    (rb"\s*<(?i:!doctype html|html)", ("a web page", _PAGE)),
    (rb"version https://git-lfs", ("a pointer of Git LFS", "fetch the file: git lfs pull")),
)


def unread_kind(head: bytes) -> tuple[str, str] | None:
    """What a file is that begins so, and what to do instead; None where that does not say."""
    return next((about for start, about in _KINDS if re.match(start, head)), None)


def not_read(path: Path, what: str, instead: str) -> InputError:
    """The error for a file of a kind that is not read."""
    return InputError(f"{path} is {what}, which is not read: {instead}")
