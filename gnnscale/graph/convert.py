"""What PyG and networkx say of a graph, as arguments of `Graph.from_arrays`; and back to PyG."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph.adjacency import EDGE_VALUES, Adjacency, as_adjacency
from gnnscale.graph.checks import tensor
from gnnscale.graph.reading.nodes import PARTS, part_of
from gnnscale.kernels import CSR

if TYPE_CHECKING:
    import networkx
    from torch_geometric.data import Data

_MASKS = tuple(f"{part}_mask" for part in PARTS)


def from_data(data: Data, **overrides: object) -> dict[str, Any]:
    """See `Graph.from_data`."""
    from torch_geometric.data import Data as PygData
    from torch_geometric.data import HeteroData

    if isinstance(data, HeteroData):
        raise InputError(
            "gnnscale trains homogeneous graphs; this is a HeteroData with node types "
            f"{data.node_types}. Convert it first: data.to_homogeneous()"
        )
    if not isinstance(data, PygData):
        raise InputError(f"expected a torch_geometric Data, got {type(data).__name__}")
    arguments: dict[str, Any] = {"num_nodes": _num_nodes(data)}
    if data.get("edge_index") is not None:
        arguments["edge_index"] = data.edge_index
        arguments["edge_weight"] = data.get("edge_weight")
        arguments["edge_attr"] = data.get("edge_attr")
        arguments["edge_type"] = _types(data, "edge_type")
        arguments["edge_time"] = _types(data, "edge_time")
    elif data.get("adj_t") is not None:
        arguments.update(_from_adj_t(data.adj_t))
    else:
        arguments["edge_index"] = torch.empty(2, 0, dtype=torch.int64)
    arguments["node_type"] = _types(data, "node_type")
    arguments["node_time"] = _types(data, "node_time")
    arguments["x"], arguments["y"] = data.get("x"), data.get("y")
    ptr = None if data.get("ptr") is None else tensor(data.ptr, "ptr")
    graphs = 1 if ptr is None else ptr.numel() - 1
    if graphs > 1:
        arguments["node_ptr"] = ptr
    y = arguments["y"]
    if isinstance(y, Tensor) and y.dim() and y.size(0) == graphs != data.num_nodes:
        arguments["y_level"] = "graph"
    if overrides.get("splits") is None:
        masks = {name: overrides.pop(name, None) for name in _MASKS}
        arguments["splits"] = _split_columns(data, masks)
    return arguments | overrides


def _types(data: Data, name: str) -> Tensor | None:
    """Types that are numbers; names in a list are for people."""
    return types if isinstance(types := data.get(name), Tensor) else None


def from_networkx(
    graph: networkx.Graph, x: str | None, y: str | None, weight: str | None
) -> dict[str, Any]:
    """See `Graph.from_networkx`."""
    for what, name in (("x", x), ("y", y), ("weight", weight)):
        if name is not None and not isinstance(name, Hashable):
            raise InputError(
                f"{what}={name!r} is no name of an attribute: give one, or write the graph to a "
                "file (GraphML, say), whose attributes gnnscale.load reads by name"
            )
    ids = {node: i for i, node in enumerate(graph.nodes)}
    edges = [(ids[u], ids[v], data) for u, v, data in graph.edges(data=True)]
    edge_index = torch.tensor([[e[0] for e in edges], [e[1] for e in edges]], dtype=torch.int64)
    arguments: dict[str, Any] = {
        "edge_index": edge_index.reshape(2, -1),
        "num_nodes": len(ids),
        "undirected": not graph.is_directed(),
        "name": graph.name or "graph",
        "x": _node_attribute(graph, x, np.float32),
        "y": _node_attribute(graph, y, None),
    }
    have = sum(weight in data for _, _, data in edges) if weight else 0
    if have and have < len(edges):
        raise InputError(
            f"edge attribute {weight!r} is on {have} of {len(edges)} edges; give all or none"
        )
    if have:
        arguments["edge_weight"] = torch.tensor([float(data[weight]) for _, _, data in edges])
    return arguments


def to_data(
    adj: Adjacency,
    x: Tensor | CSR | None,
    y: Tensor | None,
    y_level: str,
    values: Mapping[str, Tensor],
    node_ptr: Tensor | None,
) -> Data:
    """See `Graph.to_data`; `values` are what else it has, by PyG's names."""
    from torch_geometric.data import Batch
    from torch_geometric.data import Data as PygData

    if isinstance(x, CSR):
        ones = torch.ones(x.nnz) if x.values is None else x.values
        x = torch.sparse_csr_tensor(
            x.indptr, x.indices.long(), ones, size=x.shape, check_invariants=True
        )
    made = PygData if node_ptr is None else Batch
    data = made(x=x, edge_index=adj.edge_index, y=y, num_nodes=adj.num_nodes, **values)
    if node_ptr is not None:
        graphs = torch.arange(node_ptr.numel() - 1)
        data.batch = torch.repeat_interleave(graphs, node_ptr.diff())
        data.ptr = node_ptr
        _cut(data, node_ptr, adj.indptr[node_ptr], y_level)
    return data


def _cut(batch: Any, ptr: Tensor, edge_ptr: Tensor, y_level: str) -> None:
    """Tell a PyG batch where its graphs are, which `to_data_list` goes by."""
    num_graphs = ptr.numel() - 1
    ends = {"node": ptr, "edge": edge_ptr, "graph": torch.arange(ptr.numel())}
    level = dict.fromkeys(("edge_index", *EDGE_VALUES, "edge_time"), "edge") | {"y": y_level}
    keys = [key for key in batch.keys() if key not in ("batch", "ptr", "num_nodes")]  # noqa: SIM118
    none = torch.zeros(num_graphs, dtype=torch.int64)
    # The names that PyG's own from_data_list sets; there is no other way to make one of arrays.
    batch._num_graphs = num_graphs
    batch._slice_dict = {key: ends[level.get(key, "node")] for key in keys}
    batch._inc_dict = {key: ptr[:-1] if key == "edge_index" else none for key in keys}
    batch._num_nodes = ptr.diff().tolist()


def _num_nodes(data: Data) -> int | None:
    """What PyG reads off the data; where that fails, the arrays are at fault and tell why."""
    try:
        return data.num_nodes
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError, NotImplementedError):
        return None


def _from_adj_t(adj_t: Any) -> dict[str, Any]:
    if isinstance(adj_t, Tensor):
        adj = as_adjacency(adj_t)
        return {"edge_index": adj.edge_index, "edge_weight": adj.edge_weight}
    row, col, value = adj_t.coo()  # torch_sparse.SparseTensor
    return {"edge_index": torch.stack([col, row]), "edge_weight": value}


def _split_columns(data: Data, masks: Mapping[str, object]) -> dict[str, dict[str, Any]] | None:
    """`train_mask`, `valid_idx`, …: the split set "default", or a set for each column of masks.

    Args:
        data: what they are attributes of.
        masks: given beside the data; each stands in for the data's own.
    """
    own = {name: tensor(mask, name) for name, mask in masks.items() if mask is not None}
    taken = {part_of(name)[0] for name in own}
    given = own | {
        name: tensor(data[name], name)
        for name in data.keys()  # noqa: SIM118
        if part_of(name)[1] and part_of(name)[0] not in taken and data[name] is not None
    }
    if not given:
        return None
    columns = {array.size(1) for array in given.values() if array.dim() == 2 and array.size(1) != 1}
    if not columns:
        return {"default": given}
    if len(columns) > 1:
        raise InputError(f"the masks have {sorted(columns)} columns; they must agree")
    (several,) = columns
    return {
        str(k): {
            name: array[:, k] if array.dim() == 2 and array.size(1) == several else array
            for name, array in given.items()
        }
        for k in range(several)
    }


def _node_attribute(graph: Any, key: str | None, dtype: Any) -> Tensor | None:
    if key is None:
        return None
    values = [data[key] for _, data in graph.nodes(data=True) if key in data]
    if not values:
        return None
    if len(values) < graph.number_of_nodes():
        raise InputError(
            f"node attribute {key!r} is on {len(values)} of {graph.number_of_nodes()} nodes; give "
            "all or none"
        )
    try:
        return torch.from_numpy(np.ascontiguousarray(np.asarray(values, dtype=dtype)))
    except (TypeError, ValueError) as error:  # text, or vectors of different lengths
        raise InputError(f"node attribute {key!r} is no array: {error}") from error
