"""Your own layer, twice: as it is (opaque), and registered as a propagation (fast)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

import gnnscale as gs


# Opaque: any `forward(x, edge_index)`. Its reach is one hop, and that is checked before use.
class Difference(MessagePassing):
    """x'ᵢ = W₁ xᵢ + max over neighbours j of W₂ (xⱼ − xᵢ)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(aggr="max")
        self.own = nn.Linear(in_channels, out_channels)
        self.other = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.own(x) + self.propagate(edge_index, x=self.other(x))

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return x_j - x_i


gs.nn.register(Difference, hops=1)


# Registered: a mean over neighbours and a linear layer are a propagation P = D⁻¹A and a transform.
class MeanConv(nn.Module):
    """x'ᵢ = W · mean over neighbours j of xⱼ + b."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_channels, out_channels)


gs.nn.register(
    MeanConv,
    propagation=lambda conv: gs.nn.Propagation(
        gs.nn.Mean(), weight=conv.lin.weight, bias=conv.lin.bias
    ),
)


def main() -> None:
    graph = gs.load("synthetic:planted?nodes=5000&classes=5")
    for conv in (Difference, MeanConv):
        torch.manual_seed(0)
        model = gs.nn.LayeredGNN(
            [
                gs.nn.Block(conv(graph.num_features, 64), norm=gs.nn.GraphNorm(64), dropout=0.2),
                gs.nn.Block(conv(64, graph.num_classes), act=None),
            ]
        )
        trainer = gs.ClusterTrainer(model, graph, num_parts=50, clusters_per_batch=5, epochs=10)
        trainer.fit()
        print(f"{conv.__name__}: test accuracy {trainer.evaluate('test')['accuracy']:.4f}")


if __name__ == "__main__":
    main()
