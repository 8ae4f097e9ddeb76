"""Tables of edges in the dialects in which pandas and others write them."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import gnnscale as gs
from layouts.content import Content, Layouts

LAYOUTS = Layouts()
RNG = np.random.default_rng(0)
NODES, EDGES = 30, 90


def edge_frame(names: str = "numbers", weights: bool = False) -> pd.DataFrame:
    """Edges without order, each once, from the smaller to the greater; no node without one."""
    ends = np.sort(RNG.integers(0, NODES, (EDGES, 2)), axis=1)
    ends[:NODES] = np.stack([np.arange(NODES), np.arange(1, NODES + 1) % NODES], axis=1)
    ends = np.unique(np.sort(ends, axis=1), axis=0)
    ends = ends[ends[:, 0] != ends[:, 1]]
    RNG.shuffle(ends)
    called = {
        "numbers": np.arange(NODES),
        "gaps": np.arange(NODES) * 1_000_003 + 17,
        "text": np.array([f"user {i}" for i in range(NODES)]),
        "accents": np.array([f"Zoë {i} é" for i in range(NODES)]),
        "hashes": np.array([f"#{i}" for i in range(NODES)]),
        "quoted": np.array([f'Doe, "J" {i}' for i in range(NODES)]),
    }[names]
    frame = pd.DataFrame({"source": called[ends[:, 0]], "target": called[ends[:, 1]]})
    if weights:
        frame["weight"] = RNG.integers(1, 100, len(frame)) / 8
    return frame


def content_of(edges: pd.DataFrame, nodes: pd.DataFrame | None = None) -> Content:
    """What two tables mean: edges by their names, features, and the text of a label."""
    source, target = edges.columns[:2]
    if nodes is None:
        names = sorted({str(name) for c in (source, target) for name in edges[c]})
    else:
        names = nodes["node"].tolist()
    place = {str(name): i for i, name in enumerate(names)}
    ends = [edges[column].astype(str).map(place).to_numpy() for column in (source, target)]
    content = Content(np.stack(ends).astype(np.int64), len(names), True, names)
    if "weight" in edges:
        content.carried = {"edge_weight": edges["weight"].to_numpy()}
    if nodes is not None:
        content.x = nodes[["age", "size"]].to_numpy()
        content.y = nodes["team"].to_numpy()
    return content


def edges_only(
    folder: Path,
    file: str,
    write: Callable[[pd.DataFrame, Path], Any],
    read: Callable[[Path], pd.DataFrame],
    **how: Any,
) -> tuple[Callable[..., gs.Graph], Content]:
    """A table of edges in a file."""
    write(edge_frame(**how), folder / file)
    return partial(gs.from_edge_list, folder / file), content_of(read(folder / file))


def text(sep: str = ",", **how: Any) -> Callable[[pd.DataFrame, Path], Any]:
    """A writer of pandas'."""
    return lambda frame, path: frame.to_csv(path, sep=sep, **{"index": False, **how})


def reading(**how: Any) -> Callable[[Path], pd.DataFrame]:
    """A reader of pandas', ids as they are written."""
    return partial(pd.read_csv, **how)


def add(name: str, file: str, write: Any, read: Any, answers: Any = None, **how: Any) -> None:
    """Put a table of edges on the list."""
    make = partial(edges_only, file=file, write=write, read=read, **how)
    LAYOUTS.add(name, "pandas", make, answers or {})


add("csv", "e.csv", text(), reading())
add("csv with weights", "e.csv", text(), reading(), weights=True)
add("csv, ids with gaps", "e.csv", text(), reading(), names="gaps")
add("csv, ids of text", "e.csv", text(), reading(), names="text")
add("csv, ids in quotes with commas", "e.csv", text(), reading(), names="quoted")
add("csv, ids that begin with #", "e.csv", text(), reading(), {"comment": ""}, names="hashes")
add("csv with pandas' index", "e.csv", text(index=True), reading(index_col=0))
add("csv with a byte order mark", "e.csv", text(encoding="utf-8-sig"), reading())
add(
    "csv in Latin-1", "e.csv", text(encoding="latin-1"), reading(encoding="latin-1"),
    {"encoding": "latin-1"}, names="accents",
)  # fmt: skip
add("csv in UTF-16", "e.csv", text(encoding="utf-16"), reading(encoding="utf-16"), names="accents")
add("csv, lines ended by \\r\\n", "e.csv", text(lineterminator="\r\n"), reading(), names="text")
add("csv, lines ended by \\r", "e.csv", text(lineterminator="\r"), reading(), names="text")
add(
    "csv with ; and decimal commas", "e.csv", text(";", decimal=","), reading(sep=";", decimal=","),
    weights=True,
)  # fmt: skip
add("tsv", "e.tsv", text("\t"), reading(sep="\t"), names="text")
add("text with |", "e.txt", text("|"), reading(sep="|"), names="text")
add("text with blanks", "e.txt", text(" "), reading(sep=" "))
add(
    "csv without header", "e.csv", text(header=False),
    reading(header=None, names=["source", "target"]),
)  # fmt: skip
add(
    "csv without header, text and weights", "e.csv", text(header=False),
    reading(header=None, names=["source", "target", "weight"]), names="text", weights=True,
)  # fmt: skip
for suffix, pack in ((".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)):
    add(f"csv{suffix}", f"e.csv{suffix}", text(), lambda p, o=pack: pd.read_csv(o(p)), weights=True)
add("parquet", "e.parquet", lambda f, p: f.to_parquet(p), pd.read_parquet, weights=True)
add(
    "parquet with an index that has a name", "e.parquet",
    lambda f, p: f.rename_axis("row").to_parquet(p, index=True), pd.read_parquet,
)  # fmt: skip
add("parquet of text", "e.parquet", lambda f, p: f.to_parquet(p), pd.read_parquet, names="text")
add("feather", "e.feather", lambda f, p: f.to_feather(p), pd.read_feather, weights=True)


@LAYOUTS("a folder of parts, parquet", "pandas")
def parts_parquet(folder: Path, suffix: str = "parquet") -> tuple[Any, Content]:
    """As Spark leaves it."""
    frame = edge_frame(weights=True)
    (folder / "edges").mkdir()
    for i, part in enumerate(np.array_split(np.arange(len(frame)), 3)):
        path = folder / f"edges/part-{i:05d}.{suffix}"
        piece = frame.iloc[part]
        piece.to_parquet(path) if suffix == "parquet" else piece.to_csv(path, index=False)
    (folder / "edges/_SUCCESS").touch()
    read = pd.read_parquet if suffix == "parquet" else pd.read_csv
    files = sorted((folder / "edges").glob(f"part-*.{suffix}"))
    whole = pd.concat([read(file) for file in files])
    return partial(gs.from_edge_list, folder / "edges"), content_of(whole)


LAYOUTS.add("a folder of parts, csv", "pandas", partial(parts_parquet, suffix="csv"))


@LAYOUTS("a DataFrame", "pandas")
def data_frame(folder: Path) -> tuple[Any, Content]:
    """In memory."""
    frame = edge_frame("text", weights=True)
    return partial(gs.from_edge_list, frame), content_of(frame)


@LAYOUTS("edges with a time that is no weight", "pandas", {"time": "timestamp"})
def timed(folder: Path) -> tuple[Any, Content]:
    """Seconds since 1970: not weights of 10⁹."""
    edges = edge_frame()
    content = content_of(edges)
    edges["timestamp"] = RNG.integers(1_500_000_000, 1_700_000_000, len(edges))
    edges.to_csv(folder / "edges.csv", index=False)
    return partial(gs.from_edge_list, folder / "edges.csv"), content


@LAYOUTS("edges in both directions", "pandas", {"undirected": False})
def both_ways(folder: Path) -> tuple[Any, Content]:
    """Each edge listed twice: nothing is doubled in silence."""
    edges = edge_frame()
    back = edges.rename(columns={"source": "target", "target": "source"})
    whole = pd.concat([edges, back[["source", "target"]]])
    whole.to_csv(folder / "edges.csv", index=False)
    content = content_of(pd.read_csv(folder / "edges.csv"))
    content.undirected = False
    return partial(gs.from_edge_list, folder / "edges.csv"), content


@LAYOUTS("a CSV without edges", "pandas", None)
def no_edges(folder: Path) -> tuple[Any, None]:
    """One column: no edge list."""
    pd.DataFrame({"name": ["a", "b"]}).to_csv(folder / "e.csv", index=False)
    return partial(gs.from_edge_list, folder / "e.csv"), None


@LAYOUTS("ids with leading zeros", "pandas")
def zeros(folder: Path) -> tuple[Any, Content]:
    """007 is not 7 where there is 7 too."""
    ends = pd.DataFrame({"source": ["007", "7", "07"], "target": ["7", "07", "x"]})
    ends.to_csv(folder / "e.csv", index=False)
    read = pd.read_csv(folder / "e.csv", dtype=str)
    return partial(gs.from_edge_list, folder / "e.csv"), content_of(read)


@LAYOUTS("numbers and text as ids in one column", "pandas")
def mixed_ids(folder: Path) -> tuple[Any, Content]:
    """Text for the whole file, however late the first letter comes."""
    ends = edge_frame().astype(str)
    ends.loc[len(ends)] = ["29", "late"]
    ends.to_csv(folder / "e.csv", index=False)
    return partial(gs.from_edge_list, folder / "e.csv"), content_of(pd.read_csv(folder / "e.csv"))


@LAYOUTS("ids of 64 bits", "pandas")
def large_ids(folder: Path) -> tuple[Any, Content]:
    """Beyond what a float holds."""
    ends = edge_frame()
    ends = ends + (2**62 + 1)
    ends.to_csv(folder / "e.csv", index=False)
    return partial(gs.from_edge_list, folder / "e.csv"), content_of(pd.read_csv(folder / "e.csv"))


@LAYOUTS("columns in another order", "pandas")
def other_order(folder: Path) -> tuple[Any, Content]:
    """The target first, a weight between them."""
    edges = edge_frame("text", weights=True)
    edges[["target", "weight", "source"]].to_csv(folder / "e.csv", index=False)
    read = pd.read_csv(folder / "e.csv")[["source", "target", "weight"]]
    return partial(gs.from_edge_list, folder / "e.csv"), content_of(read)


@LAYOUTS("edges with a type in text", "pandas", {"drop": "kind"})
def typed_edges(folder: Path) -> tuple[Any, Content]:
    """Neither weight nor id."""
    edges = edge_frame()
    content = content_of(edges)
    edges["kind"] = RNG.choice(["follows", "likes"], len(edges))
    edges.to_csv(folder / "e.csv", index=False)
    return partial(gs.from_edge_list, folder / "e.csv"), content


@LAYOUTS("an Excel workbook", "pandas", None)
def excel(folder: Path) -> tuple[Any, None]:
    """A zip that is no table of text."""
    import zipfile

    with zipfile.ZipFile(folder / "e.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("[Content_Types].xml", "<Types/>")
    return partial(gs.load, folder / "e.xlsx"), None


@LAYOUTS("a pickle of pandas", "pandas", None)
def pickled(folder: Path) -> tuple[Any, None]:
    """Never loaded."""
    edge_frame().to_pickle(folder / "e.pkl")
    return partial(gs.load, folder / "e.pkl"), None
