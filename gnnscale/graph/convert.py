"""Graphs from arrays, PyG and networkx, and back to PyG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import checks
from gnnscale.graph.adjacency import Adjacency
from gnnscale.graph.graph import Graph, Split
from gnnscale.kernels import CSR

if TYPE_CHECKING:
    from torch_geometric.data import Data


def from_arrays(
    edge_index: Any,
    x: Any,
    y: Any,
    *,
    num_nodes: int | None,
    edge_weight: Any,
    edge_attr: Any,
    splits: Mapping[str, Mapping[str, Any]] | None,
    train_mask: Any,
    val_mask: Any,
    test_mask: Any,
    node_ptr: Any,
    y_level: str,
    task: str | None,
    metric: str | None,
    num_classes: int | None,
    name: str,
    source: str | None,
    undirected: bool,
) -> Graph:
    """See `Graph.from_arrays`."""
    edge_index = _edge_index(edge_index)
    x, y, edge_weight, edge_attr = _features(x), _tensor(y), _tensor(edge_weight), _tensor(edge_attr)
    node_ptr = _tensor(node_ptr)
    masks = {"train": train_mask, "val": val_mask, "test": test_mask}
    wanted = {k: dict(v) for k, v in (splits or {}).items()}
    unknown = [f"{k}/{p}" for k, v in wanted.items() for p in v if p not in masks]
    if any(mask is not None for mask in masks.values()):
        wanted = {"default": masks, **wanted}
    wanted = {k: {p: _tensor(v.get(p)) for p in masks} for k, v in wanted.items()}

    if num_nodes is None:
        num_nodes = _infer_num_nodes(edge_index, x, y if y_level == "node" else None, wanted)
    num_nodes = int(num_nodes)
    if num_nodes < 0:
        raise InputError(f"num_nodes={num_nodes} must not be negative")
    if edge_attr is not None and edge_attr.dim() == 1:
        edge_attr = edge_attr.unsqueeze(1)
    faults = checks.edge_index_faults(edge_index, num_nodes)
    shape_ok = edge_index.dim() == 2 and edge_index.size(0) == 2
    num_given = edge_index.size(1) if shape_ok else 0
    if edge_weight is not None and shape_ok and edge_weight.shape != (num_given,):
        faults.append(
            f"edge_weight has shape {tuple(edge_weight.shape)}; it must be [{num_given}], one per "
            "edge"
        )
    if edge_attr is not None and shape_ok:
        faults += checks.edge_attr_faults(edge_attr, num_given)
    if y_level == "edge" and undirected:
        faults.append("edge-level labels want every directed edge listed: undirected=False")
    structure_ok = not faults
    if unknown:
        faults.append(f"splits has {', '.join(unknown)}; the parts are called train, val and test")
    complete = {}
    for key, parts in wanted.items():
        made = {p: _mask(v, num_nodes, f"{key}/{p}", faults) for p, v in parts.items()}
        complete[key] = Split(**made)
    if y is not None and y.dim() == 2 and y.size(1) == 1 and not y.is_floating_point():
        y = y.squeeze(1)
    task = task or _infer_task(y)
    num_classes = _infer_num_classes(y, task) if num_classes is None else num_classes
    if y is not None and task == "classification" and not y.is_floating_point():
        y = y.long()

    # Structure needs valid ids, so everything else is judged on a stand-in where they are not.
    if not structure_ok:
        adj, order = _empty_adjacency(num_nodes), torch.empty(0, dtype=torch.int64)
    else:
        if undirected:
            edge_index, edge_weight, edge_attr = _symmetrise(edge_index, edge_weight, edge_attr)
        adj, order = Adjacency.with_permutation(edge_index, num_nodes, edge_weight)
    graph = Graph(
        adj=adj,
        x=x,
        y=y,
        y_level=y_level,
        edge_attr=None if edge_attr is None or not structure_ok else edge_attr[order],
        splits=complete,
        node_ptr=None if node_ptr is None else node_ptr.long(),
        task=task,
        metric=metric,
        num_classes=num_classes,
        name=name,
        source=source,
    )
    if y is not None and y_level == "edge":
        if not structure_ok:
            graph.y = None
        elif y.dim() and y.size(0) == num_given:
            graph.y = y[order]
    try:
        graph.check()
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(list(dict.fromkeys(faults)))
    return graph


def from_data(data: Data, **overrides: Any) -> Graph:
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
    arguments: dict[str, Any] = {"num_nodes": data.num_nodes}
    if data.get("edge_index") is not None:
        arguments["edge_index"] = data.edge_index
        arguments["edge_weight"] = data.get("edge_weight")
        arguments["edge_attr"] = data.get("edge_attr")
    elif data.get("adj_t") is not None:
        arguments.update(_from_adj_t(data.adj_t))
    else:
        arguments["edge_index"] = torch.empty(2, 0, dtype=torch.int64)
    arguments["x"], arguments["y"] = data.get("x"), data.get("y")
    ptr = data.get("ptr")
    graphs = 1 if ptr is None else ptr.numel() - 1
    if graphs > 1:
        arguments["node_ptr"] = ptr
    y = arguments["y"]
    if isinstance(y, Tensor) and y.dim() and y.size(0) == graphs != data.num_nodes:
        arguments["y_level"] = "graph"
    masks = {part: data.get(f"{part}_mask") for part in ("train", "val", "test")}
    arguments["splits"] = _split_columns(masks)
    arguments.update(overrides)
    return Graph.from_arrays(**arguments)


def from_networkx(
    graph: Any, *, x: str | None, y: str | None, weight: str | None, **overrides: Any
) -> Graph:
    """See `Graph.from_networkx`."""
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
        raise InputError(f"edge attribute {weight!r} is on {have} of {len(edges)} edges; give all or none")
    if have:
        arguments["edge_weight"] = torch.tensor([float(data[weight]) for _, _, data in edges])
    arguments.update(overrides)
    return Graph.from_arrays(**arguments)


def to_data(graph: Graph) -> Data:
    """See `Graph.to_data`."""
    from torch_geometric.data import Data as PygData

    x = graph.x
    if isinstance(x, CSR):
        values = torch.ones(x.nnz) if x.values is None else x.values
        x = torch.sparse_csr_tensor(x.indptr, x.indices.long(), values, size=x.shape)
    data = PygData(x=x, edge_index=graph.edge_index, y=graph.y, num_nodes=graph.num_nodes)
    if graph.edge_weight is not None:
        data.edge_weight = graph.edge_weight
    if graph.edge_attr is not None:
        data.edge_attr = graph.edge_attr
    if (split := graph.split()) is not None:
        data.train_mask, data.val_mask, data.test_mask = split.train, split.val, split.test
    if graph.node_ptr is not None:
        data.ptr = graph.node_ptr
        graphs = torch.arange(graph.num_graphs)
        data.batch = torch.repeat_interleave(graphs, graph.node_ptr.diff())
    return data


def _tensor(value: Any) -> Tensor | None:
    if value is None:
        return value
    if isinstance(value, Tensor):
        return value.detach().as_subclass(Tensor).cpu()  # neither a Parameter nor an EdgeIndex
    try:
        array = np.ascontiguousarray(value)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"cannot be made an array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"arrays of dtype {array.dtype} are not accepted; give numbers")
    if array.dtype.kind == "u" and array.itemsize > 1:
        array = array.astype(np.int64)
    if not array.flags.writeable:  # torch warns of, and writes through, read-only memory
        array = array.copy()
    return torch.from_numpy(array)


def _edge_index(value: Any) -> Tensor:
    edge_index = _tensor(value)
    if edge_index is None:
        raise InputError("edge_index is None; give integers [2, num_edges]")
    # An empty list says nothing about its type.
    return edge_index.long() if edge_index.numel() == 0 else edge_index


def _features(x: Any) -> Tensor | CSR | None:
    if x is None or isinstance(x, CSR):
        return x if x is None else x.to("cpu")
    if hasattr(x, "tocsr"):
        x = x.tocsr()
        return CSR(
            torch.from_numpy(x.indptr.astype(np.int64)),
            torch.from_numpy(x.indices.astype(np.int32)),
            torch.from_numpy(x.data.astype(np.float32)),
            tuple(x.shape),
        )
    x = _tensor(x)
    if x.layout != torch.strided:
        csr = x if x.layout == torch.sparse_csr else x.to_sparse_csr()
        values = csr.values() if csr.values().is_floating_point() else csr.values().float()
        return CSR(csr.crow_indices().long(), csr.col_indices(), values, tuple(csr.shape))
    return x


def _infer_num_nodes(
    edge_index: Tensor, x: Any, y: Tensor | None, splits: Mapping[str, Mapping[str, Any]]
) -> int:
    if x is not None:
        return x.shape[0]
    if y is not None and y.dim():
        return y.size(0)
    for parts in splits.values():
        for mask in parts.values():
            if mask is not None and mask.dtype == torch.bool:
                return mask.numel()
    if edge_index.numel() == 0 or edge_index.is_floating_point():
        return 0
    return max(int(edge_index.max()) + 1, 0)


def _mask(value: Tensor | None, num_nodes: int, name: str, faults: list[str]) -> Tensor:
    if value is None:
        return torch.zeros(num_nodes, dtype=torch.bool)
    if value.dtype == torch.bool:
        return value
    if value.dtype == torch.uint8 and value.numel() == num_nodes:
        return value.bool()
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    if value.is_floating_point() or value.dim() != 1:
        faults.append(f"split {name} is {value.dtype} {tuple(value.shape)}; give a mask or node ids")
    elif value.numel() and (int(value.min()) < 0 or int(value.max()) >= num_nodes):
        faults.append(
            f"split {name} holds ids in [{int(value.min())}, {int(value.max())}]; allowed is "
            f"[0, {num_nodes - 1}]"
        )
    else:
        mask[value.long()] = True
    return mask


def _infer_task(y: Tensor | None) -> str:
    if y is None or (y.dim() == 1 and not y.is_floating_point()):
        return "classification"
    if y.dim() == 2 and y.size(1) > 1:
        known = y[~torch.isnan(y)] if y.is_floating_point() else y
        if bool(((known == 0) | (known == 1)).all()):
            return "multilabel"
    return "regression"


def _infer_num_classes(y: Tensor | None, task: str) -> int:
    if y is None or y.numel() == 0:
        return 0
    if task == "classification":
        return 0 if y.is_floating_point() else int(y.max()) + 1
    return 1 if y.dim() == 1 else y.size(1)


def _symmetrise(edge_index: Tensor, *values: Tensor | None) -> tuple[Tensor | None, ...]:
    back = edge_index[0] != edge_index[1]
    both = torch.cat([edge_index, edge_index[:, back].flip(0)], dim=1)
    return both, *(None if v is None else torch.cat([v, v[back]]) for v in values)


def _empty_adjacency(num_nodes: int) -> Adjacency:
    return Adjacency(torch.zeros(num_nodes + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32))


def _from_adj_t(adj_t: Any) -> dict[str, Any]:
    if isinstance(adj_t, Tensor):
        from gnnscale.graph.adjacency import as_adjacency

        adj = as_adjacency(adj_t)
        return {"edge_index": adj.edge_index, "edge_weight": adj.edge_weight}
    row, col, value = adj_t.coo()  # torch_sparse.SparseTensor
    return {"edge_index": torch.stack([col, row]), "edge_weight": value}


def _split_columns(masks: Mapping[str, Tensor | None]) -> dict[str, dict[str, Any]] | None:
    given = {part: mask for part, mask in masks.items() if mask is not None}
    if not given:
        return None
    given = {p: m[:, 0] if m.dim() == 2 and m.size(1) == 1 else m for p, m in given.items()}
    columns = {m.size(1) for m in given.values() if m.dim() == 2}
    if not columns:
        return {"default": given}
    if len(columns) > 1:
        raise InputError(f"the masks have {sorted(columns)} columns; they must agree")
    return {
        str(k): {part: m[:, k] if m.dim() == 2 else m for part, m in given.items()}
        for k in range(columns.pop())
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
        return _tensor(np.asarray(values, dtype=dtype))
    except (TypeError, ValueError) as error:  # text, or vectors of different lengths
        raise InputError(f"node attribute {key!r} is no array: {error}") from error
