"""OGB's own sets given by the path of the folder that ogb has made, as ``dataset/ogbn_arxiv``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnnscale.data.formats import seen
from gnnscale.data.formats.registry import Format
from gnnscale.data.ogb.loading import load_ogb
from gnnscale.data.ogb.own import is_saved
from gnnscale.data.options import Option, read_bool
from gnnscale.graph import Graph

_NAME = re.compile(r"(ogb[nlg])_(\w+?)(?:_pyg|_dgl)?")


def _name_of(path: Path) -> str | None:
    """The name of the set in a folder of ogb's: "ogbn-arxiv"."""
    match = _NAME.fullmatch(path.name)
    if match is None or not {"raw", "split"} <= seen.files(path) or is_saved(path):
        return None
    return f"{match[1]}-{match[2].replace('_', '-')}"


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    return load_ogb(str(_name_of(path)), data=str(path), **given)


FORMATS = (
    Format(
        "ogb-raw",
        "a folder that ogb has made of a set of its own, as gnnscale.load('ogbn-arxiv') reads it",
        "a folder ogbn_NAME with raw/ and split/",
        lambda path: _name_of(path) is not None,
        _read,
        options={"undirected": Option(read_bool)},
        streams=True,
        needs="ogb",
        documented="https://ogb.stanford.edu/docs/dataset_overview/",
    ),
)
