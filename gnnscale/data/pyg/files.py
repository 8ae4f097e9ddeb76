"""PyG's own files given by path: ``Data`` that was saved, and the folders of its data sets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gnnscale.data.formats import seen
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.registry import Format, find_format
from gnnscale.data.pyg.reading import features_of
from gnnscale.data.pyg.tensors import load_tensors
from gnnscale.data.splits import is_split_key
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.convert import from_data

if TYPE_CHECKING:
    from torch_geometric.data import Data

logger = logging.getLogger(__name__)

_NOT_DATA = ("pre_transform.pt", "pre_filter.pt")
_PARTS = ("train", "val", "test")
_HETERO = (
    "{path} is a HeteroData, of several kinds of nodes or edges; gnnscale trains on one kind. "
    "Where it was made, save it as one: torch.save(data.to_homogeneous(), path); node_type and "
    "edge_type go with it"
)


def _read_file(path: Path, given: Mapping[str, Any]) -> Graph:
    return _graph(_data_in(load_tensors(path), path), path, given)


def _graph(graphs: list[Data], path: Path, given: Mapping[str, Any]) -> Graph:
    sparse = "standardise" not in given.get("preprocessing", ())  # which makes zeros others
    arrays = arrays_of(graphs[0], sparse) if len(graphs) == 1 else _many(graphs, sparse)
    return graph_of(arrays, path, given)


# --- what is in a file --------------------------------------------------------------------------


def _data_in(content: Any, path: Path) -> list[Data]:
    """The graphs in what was saved.

    Raises:
        InputError: there are none, or of several kinds of nodes.
    """
    from torch_geometric.data import Data, HeteroData, TemporalData

    if isinstance(content, tuple) and len(content) > 1:  # as InMemoryDataset writes it
        return _dataset(content, path)
    if isinstance(content, HeteroData):
        raise InputError(_HETERO.format(path=path))
    if isinstance(content, TemporalData):
        raise InputError(
            f"{path} is a TemporalData, a list of events; make a graph of it where it was made: "
            "torch.save(Data(edge_index=torch.stack([events.src, events.dst])), path)"
        )
    if isinstance(content, Data):
        return [content]
    if isinstance(content, list | tuple) and content:
        return [graph for one in content for graph in _data_in(one, path)]
    if isinstance(content, dict) and {"edge_index", "adj_t"} & content.keys():
        return [Data.from_dict(content)]
    if isinstance(content, torch.Tensor) and content.dim() == 2 and content.size(0) == 2:
        return [Data(edge_index=content)]
    raise InputError(
        f"{path} holds {_described(content)}, and no graph: a Data, a list of them, or a "
        "dictionary with edge_index"
    )


def _described(content: Any) -> str:
    if isinstance(content, torch.Tensor):
        return f"a tensor {[*content.shape]}"
    if isinstance(content, dict):
        keys = ", ".join(map(str, list(content)[:6]))
        return f"a dictionary of {keys}{', …' if len(content) > 6 else ''}"
    return f"a {type(content).__name__}"


def _dataset(content: tuple[Any, ...], path: Path) -> list[Data]:
    from torch_geometric.data import Data, HeteroData
    from torch_geometric.data.separate import separate

    held, slices = content[:2]
    if not (slices is None or isinstance(slices, dict)):
        return [graph for one in content for graph in _data_in(one, path)]
    if content[-1] is HeteroData or isinstance(held, HeteroData):
        raise InputError(_HETERO.format(path=path))
    whole = held if isinstance(held, Data) else Data.from_dict(held)
    if not slices:
        return [whole]
    count = max(len(ends) for ends in slices.values()) - 1
    return [separate(Data, whole, i, slice_dict=slices, decrement=False) for i in range(count)]


def arrays_of(data: Data, sparse: bool) -> dict[str, np.ndarray]:
    """The arrays of a graph, as `graph_from_arrays` takes them."""
    for key, value in data.to_dict().items():
        if isinstance(value, np.ndarray):
            data[key] = torch.from_numpy(value)
    known = from_data(data, splits={})
    arrays: dict[str, np.ndarray] = {}
    for key in ("edge_index", "edge_weight", "edge_attr", "edge_type", "node_type", "y"):
        if isinstance(value := known.get(key), torch.Tensor):
            arrays[key] = value.numpy()
    for key in ("num_nodes", "y_level"):
        if known.get(key) is not None:
            arrays[key] = np.array(known[key])
    if isinstance(x := known["x"], torch.Tensor):
        arrays |= features_of(x) if sparse or x.layout != torch.strided else {"x": x.numpy()}
    keys = [key for key in data.keys() if isinstance(data[key], torch.Tensor)]  # noqa: SIM118
    for key in keys:
        if is_split_key(key):
            arrays[key] = data[key].numpy()
    left = [key for key in keys if key not in arrays and key not in ("x", "adj_t", "ptr", "batch")]
    if left:
        logger.info("left out, of no known meaning: %s", ", ".join(left))
    return arrays


def _many(graphs: list[Data], sparse: bool) -> dict[str, np.ndarray]:
    from torch_geometric.data import Batch

    batch: Any = Batch.from_data_list(graphs)
    return arrays_of(batch, sparse) | {"node_ptr": batch.ptr.numpy()}


# --- folders of data sets -----------------------------------------------------------------------


def _processed(root: Path) -> list[Path]:
    return [
        path for path in sorted((root / "processed").glob("*.pt")) if path.name not in _NOT_DATA
    ]


def _root_in(path: Path) -> Path | None:
    """The folder with raw/ and processed/: the one given, or the only one in it."""
    if not path.is_dir():
        return None
    inside = [path / name for name in sorted(seen.files(path)) if (path / name).is_dir()]
    for root in (path, *(inside if len(inside) == 1 else ())):
        names = seen.files(root)
        if names & {"raw", "processed"} and not names & {"split", "mapping"}:  # which are OGB's
            return root
    return None


def _read_root(path: Path, given: Mapping[str, Any]) -> Graph:
    root = _root_in(path)
    if root is None:
        raise InputError(f"{path} has no folder raw/ or processed/, as PyG's data sets have")
    made = _processed(root)
    by_part = {file.stem: file for file in made}
    if by_part.keys() == set(_PARTS):
        return _in_parts([by_part[part] for part in _PARTS], path, given)
    if len(made) == 1:
        return _read_file(made[0], given)
    if made:
        raise InputError(
            f"{root / 'processed'} holds {', '.join(file.name for file in made)}; give the path "
            "of one of them"
        )
    raw = root / "raw"
    files = [raw / name for name in sorted(seen.files(raw))]
    for place in (raw, *(files if len(files) == 1 else ())):
        if (found := find_format(place)) is not None and found.options is not None:
            return found.read(place, given)
    raise InputError(
        f"{root} has not been processed by PyG, and the files in raw/ are of no format that is "
        "known. Open the data set once in PyG, which writes processed/, and load the folder again"
    )


def _in_parts(files: list[Path], path: Path, given: Mapping[str, Any]) -> Graph:
    """Training, validation and test graphs in files of their own, as in PPI."""
    parts = [_data_in(load_tensors(file), file) for file in files]
    sizes = [sum(int(graph.num_nodes or 0) for graph in graphs) for graphs in parts]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    arrays = _many([graph for graphs in parts for graph in graphs], sparse=True)
    arrays |= {f"{part}_mask": owner == i for i, part in enumerate(_PARTS)}
    return graph_of(arrays, path, given)


def _is_file(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in (".pt", ".pth")


FORMATS = (
    Format(
        "pyg",
        "a Data of PyG, a list of them, or a dictionary of tensors, as torch.save wrote it",
        "*.pt, *.pth",
        _is_file,
        _read_file,
        documented="https://pytorch-geometric.readthedocs.io/en/latest/get_started/introduction.html",
    ),
    Format(
        "pyg-root",
        "the folder of a PyG data set: what PyG has processed, else its raw files where known",
        "a folder with processed/, raw/",
        lambda path: _root_in(path) is not None,
        _read_root,
        documented="https://pytorch-geometric.readthedocs.io/en/latest/tutorial/create_dataset.html",
    ),
)
