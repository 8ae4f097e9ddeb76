"""Log a run to Weights & Biases: `pip install wandb`, then `python examples/wandb_callback.py`.

`WANDB_MODE=offline` writes to the folder `wandb/` and asks for no account.
"""

from __future__ import annotations

from typing import Any

import gnnscale as gs
from gnnscale.errors import MissingDependency
from gnnscale.train import Callback


class WandB(Callback):
    """Log every figure of every epoch, and the metrics of the kept weights at the end.

    Args:
        project: the project that the run belongs to.
        settings: what else `wandb.init` takes. An interrupted training goes on in its own run where
            it is given `id="…", resume="allow"`.

    Raises:
        MissingDependency: wandb is not installed.
    """

    def __init__(self, project: str, **settings: Any) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingDependency("the W&B callback needs `pip install wandb`") from error
        self._init, self._settings = wandb.init, {"project": project, **settings}

    def on_fit_start(self, trainer: Any) -> None:
        """Begin a run that knows the trainer's arguments."""
        self._run = self._init(config=trainer.report.run["config"], **self._settings)

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        """Log the epoch's row of the report."""
        self._run.log(row, step=row["epoch"])

    def on_fit_end(self, trainer: Any, report: gs.Report) -> None:
        """Log what the kept weights reach."""
        for where, metrics in report.final.items():
            self._run.summary.update({f"final_{where}_{k}": v for k, v in metrics.items()})
        self._run.finish()


if __name__ == "__main__":
    graph = gs.load("synthetic:planted?nodes=5000")
    model = gs.nn.GraphSAGE(graph.num_features, 64, 2, graph.num_classes, dropout=0.2)
    gs.ClusterTrainer(model, graph, epochs=10, callbacks=[WandB("gnnscale")]).fit()
