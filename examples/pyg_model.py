"""A PyG model, trained as it is: its parameters are shared, its state dict stays PyG's."""

from __future__ import annotations

import torch
import torch_geometric

import gnnscale as gs


def main() -> None:
    torch.manual_seed(0)
    graph = gs.load("synthetic:planted?nodes=5000&classes=5")
    data = graph.to_data()  # what a PyG user has

    pyg_model = torch_geometric.nn.GCN(
        data.num_features, hidden_channels=64, num_layers=2, out_channels=5, dropout=0.2
    )
    trainer = gs.ClusterTrainer(pyg_model, data, num_parts=50, clusters_per_batch=5, epochs=10)
    trainer.fit()
    exact = trainer.evaluate("test")["accuracy"]

    # The PyG model itself has been trained, and agrees on the full graph.
    pyg_model.eval()
    out = pyg_model(data.x, data.edge_index).argmax(dim=1)
    own = (out == data.y)[data.test_mask].float().mean()
    print(f"test accuracy: {exact:.4f} by gnnscale, {own:.4f} by PyG's own forward")


if __name__ == "__main__":
    main()
