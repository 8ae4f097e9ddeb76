"""How much of a run is memory: accuracy with and without test nodes that copy a training node.

    gnnscale train --dataset debian --run-dir runs/debian
    python benchmarks/copies.py runs/debian

A copy has exactly the features of a node that was trained on (`gnnscale info DATASET --leaks`).
"""

from __future__ import annotations

import argparse

import torch

import gnnscale as gs
from gnnscale.kernels import CSR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="the folder of a run of one class a node")
    run = gs.load_run(parser.parse_args().run)
    graph, predicted = run.graph, run.trainer.predict().argmax(dim=1)
    rows = [row.tobytes() for row in _dense(graph.x).numpy()]
    split = graph.splits["default"]
    train, test = (part.nonzero().flatten().tolist() for part in (split.train, split.test))
    trained = {rows[node] for node in train}
    copies = torch.tensor([rows[node] in trained for node in test])
    hit = (predicted == graph.y)[test].double()
    for name, those in (("all", torch.ones_like(copies)), ("copies", copies), ("others", ~copies)):
        print(f"{name}: {int(those.sum()):,} test nodes, accuracy {hit[those].mean():.4f}")


def _dense(x: torch.Tensor | CSR) -> torch.Tensor:
    return x.to_dense() if isinstance(x, CSR) else x


if __name__ == "__main__":
    main()
