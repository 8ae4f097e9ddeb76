"""GraphSAGE with neighbour sampling in DGL: what the paper of L-GCN compares with.

`layerwise.py sampled` calls this file with an interpreter that has DGL, one process a run. It is
Hamilton et al., NeurIPS 2017, algorithm 2: two layers, 25 and 10 sampled neighbours, batches of 512
training nodes, on the graph, the split and the width of the layer-wise runs. Its seconds are those
of sampling and of steps; validation on the whole graph, unsampled, is not counted.

Sparse features stay sparse: a batch's rows times the first weights by our kernel, then DGL's mean
over the sampled edges. DGL's own layer takes dense rows, thousands of columns wide here.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import gnnscale as gs
from gnnscale.inference import make_metric
from gnnscale.kernels import CSR
from gnnscale.nn.convs.propagation import linear_rows
from gnnscale.train.run.process import MemoryMeter

_DENSE = 0.1  # filled: from here on dense rows are faster


class Rows:
    """Features by row, as tensors that a linear map takes."""

    def __init__(self, x: Tensor | CSR) -> None:
        import scipy.sparse

        self.dense: Tensor | None = None
        if isinstance(x, CSR) and x.nnz < _DENSE * x.shape[0] * x.shape[1]:
            values = torch.ones(x.nnz) if x.values is None else x.values.float()
            parts = values.numpy(), x.indices.numpy(), x.indptr.numpy()
            self.sparse = scipy.sparse.csr_matrix(parts, tuple(x.shape))
        else:
            self.dense = x.to_dense() if isinstance(x, CSR) else x

    def __getitem__(self, nodes: Tensor) -> Tensor | CSR:
        if self.dense is not None:
            return self.dense[nodes]
        rows = self.sparse[nodes.numpy()]
        indptr, indices = rows.indptr.astype(np.int64), rows.indices.astype(np.int32)
        indptr, indices, values = map(torch.from_numpy, (indptr, indices, rows.data))
        return CSR(indptr, indices, values, rows.shape)


class MeanLayer(nn.Module):
    """GraphSAGE's mean: W x + V mean(x of the sampled neighbours), transformed before the mean."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.own = nn.Linear(before, after)
        self.others = nn.Linear(before, after, bias=False)

    def forward(self, block: Any, x: Tensor | CSR) -> Tensor:
        from dgl import function

        block.srcdata["h"] = linear_rows(x, self.others.weight)
        block.update_all(function.copy_u("h", "m"), function.mean("m", "out"))
        first = _first(x, block.num_dst_nodes())
        return linear_rows(first, self.own.weight, self.own.bias) + block.dstdata["out"]


def _first(x: Tensor | CSR, count: int) -> Tensor | CSR:
    if isinstance(x, Tensor):
        return x[:count]
    end = int(x.indptr[count])
    assert x.values is not None
    shape = (count, x.shape[1])
    return CSR(x.indptr[: count + 1], x.indices[:end], x.values[:end], shape)


class GraphSAGE(nn.Module):
    """Layers with LayerNorm, ReLU and dropout between."""

    def __init__(self, widths: list[int], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MeanLayer(*pair) for pair in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths[1:-1])
        self.dropout = dropout

    def forward(self, blocks: list[Any], x: Tensor | CSR) -> Tensor:
        for number, (layer, block) in enumerate(zip(self.layers, blocks, strict=True)):
            if number:
                x = self.norms[number - 1](x).relu()
                x = functional.dropout(x, self.dropout, self.training)
            x = layer(block, x)
        return x


def sampled(
    data: str,
    seed: int,
    hidden: int,
    batch: int,
    fanouts: list[int],
    lr: float,
    dropout: float,
    patience: int,
    most_seconds: float,
    inductive: bool,
) -> dict[str, Any]:
    """Train until validation stands still, or for `most_seconds`."""
    import dgl

    torch.manual_seed(seed)
    dgl.seed(seed)
    with MemoryMeter() as meter:
        graph = gs.load(data)
        assert graph.x is not None and graph.y is not None and graph.num_features is not None
        split = graph.split("default")
        assert split is not None
        source, target = graph.adj.edge_index
        whole = dgl.graph((source, target), num_nodes=graph.num_nodes)
        rows, y = Rows(graph.x), graph.y.long()
        seen = whole
        if inductive:  # neighbours are drawn among the training nodes alone
            kept = split.train[source] & split.train[target]
            seen = dgl.graph((source[kept], target[kept]), num_nodes=graph.num_nodes)
        sampler = dgl.dataloading.NeighborSampler(fanouts)
        loader = dgl.dataloading.DataLoader(
            seen, split.train.nonzero().view(-1), sampler, batch_size=batch, shuffle=True
        )
        widths = [graph.num_features, *[hidden] * (len(fanouts) - 1), graph.num_classes]
        model = GraphSAGE(widths, dropout)
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        every = torch.arange(graph.num_nodes)
        everything = [dgl.to_block(whole, every)] * len(fanouts)

        def score(mask: Tensor) -> float:
            model.eval()
            with torch.no_grad():
                out = model(everything, rows[every])
            model.train()
            metric = make_metric(graph.metric or "accuracy")
            metric.update(out[mask], y[mask])
            return float(metric.compute())

        curve: list[list[float]] = []
        seconds, best, best_epoch, test = 0.0, float("-inf"), 0, 0.0
        while seconds < most_seconds and len(curve) - best_epoch < patience:
            started = time.monotonic()
            for inputs, outputs, blocks in loader:
                loss = functional.cross_entropy(model(blocks, rows[inputs]), y[outputs])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            seconds += time.monotonic() - started
            value = score(split.val)
            curve.append([seconds, value])
            if value > best:
                best, best_epoch, test = value, len(curve), score(split.test)
    return {
        "metric": graph.metric,
        "test": test,
        "val": best,
        "best_epoch": best_epoch,
        "epochs": len(curve),
        "seconds": seconds,
        "peak_pss": meter.peak.together,
        "curve": curve,
    }


def main() -> None:
    setting = json.loads(sys.argv[1])
    torch.set_num_threads(setting.pop("threads"))
    print(json.dumps(sampled(**setting)))


if __name__ == "__main__":
    os.environ.setdefault("DGLBACKEND", "pytorch")  # else DGL says on import that it has none
    main()
