"""Stop a run in the middle of an epoch, go on in another process: the weights are the same bits."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import gnnscale as gs


def make_trainer(run_dir: Path) -> gs.ClusterTrainer:
    torch.manual_seed(0)
    graph = gs.load("synthetic:planted?nodes=3000&classes=4")
    model = gs.nn.GraphSAGE(graph.num_features, 32, 2, graph.num_classes, dropout=0.5)
    return gs.ClusterTrainer(
        model,
        graph,
        num_parts=30,
        clusters_per_batch=3,
        epochs=6,
        run_dir=run_dir,
        checkpoint_every=7,  # steps; ten make an epoch
        progress=False,
    )


class StopInEpochThree(gs.Callback):
    """Stands for a power cut: the process ends without a word."""

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        if row["epoch"] == 3:
            sys.exit(1)


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    if len(sys.argv) > 1:  # the process that dies
        trainer = make_trainer(Path(sys.argv[1]))
        trainer.callbacks.append(StopInEpochThree())
        trainer.fit()

    whole = make_trainer(folder / "whole")
    whole.fit()

    subprocess.run([sys.executable, __file__, str(folder / "cut")], check=False)
    resumed = make_trainer(folder / "cut")
    report = resumed.fit(resume=True)

    pairs = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    same = all(torch.equal(a, b) for a, b in pairs)
    print(f"{len(report.rows)} epochs; weights equal bit for bit: {same}")
    assert same


if __name__ == "__main__":
    main()
