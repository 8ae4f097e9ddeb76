"""Cluster-GCN's convolution (Chiang et al., KDD 2019), in every form of the paper and its code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import Linear, MessagePassing
from torch_geometric.utils import is_sparse, to_edge_index
from typing_extensions import override

from gnnscale.choices import choices_checked, number_faults
from gnnscale.errors import InputError
from gnnscale.nn.convs.matrices import RowNormalisation
from gnnscale.nn.convs.propagation import Propagation, is_plain_linear, register
from gnnscale.nn.convs.stacked import Stacked

# What stands on the diagonal before λ: (s, c) of (D + s·I)⁻¹ (A + s·I) + c·I.
PROPAGATIONS = {
    "mean": (0.0, 0.0),
    "mean_plus_identity": (0.0, 1.0),
    "self_loops": (1.0, 0.0),
}


class ClusterGCNConv(MessagePassing):
    """X' = P X W + b, or [P X ‖ X] W + b, with one of Cluster-GCN's propagation matrices P.

    - `propagation="mean"`: D⁻¹A, row-normalised (eq. 1);
    - `propagation="mean_plus_identity"`: D⁻¹A + I (eq. 9);
    - `propagation="self_loops"`: Ã = (D + I)⁻¹(A + I) (eq. 10), and with `diag_lambda=λ`
      Ã + λ·diag(Ã) (eq. 11, diagonal enhancement).

    The paper's A has no self-loops. Those of a graph that has some are left out of A and D, as PyG
    does: every node then has the one of weight 1 that I stands for, or none. A row without
    in-neighbours is 0 in D⁻¹A. Edge weights count in A and in D, which sums them.

    The authors' released code concatenates and drops out between P and W:
    `ClusterGCNConv(…, propagation="mean", concatenated=True, propagated_dropout=0.2, bias=False)`,
    followed by a layer norm and ReLU. With `concatenated=True` the state dict has the keys of PyG's
    `ClusterGCNConv`, which is that form of eq. 11.

    Args:
        in_channels: width of the input; -1 to take it from the first one.
        out_channels: width of the output.
        propagation: "mean", "mean_plus_identity" or "self_loops".
        diag_lambda: λ: how much of P's diagonal is added to P.
        concatenated: give the node itself weights of its own, as GraphSAGE does.
        propagated_dropout: probability in [0, 1] of dropping entries of P X, or of [P X ‖ X],
            before W. P X is then computed at the input's width, even where W narrows.
        bias: add b.

    Shapes: x `[num_nodes, in_channels]`, edge_index `[2, num_edges]`, edge_weight `[num_edges]` →
        `[num_nodes, out_channels]`.

    Raises:
        InputError: an argument is not valid.
    """

    @choices_checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        propagation: str = "self_loops",
        diag_lambda: float = 0.0,
        concatenated: bool = False,
        propagated_dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(aggr="add")
        faults = number_faults("diag_lambda", diag_lambda)
        if not isinstance(propagation, str) or propagation not in PROPAGATIONS:
            faults.append(f"propagation={propagation!r}: there are {', '.join(PROPAGATIONS)}")
        elif propagation == "mean" and diag_lambda:
            faults.append(
                f"diag_lambda={diag_lambda}: D⁻¹A has an empty diagonal, of which any multiple is "
                'nothing; give propagation="self_loops" (eq. 11)'
            )
        faults += number_faults("propagated_dropout", propagated_dropout, 0, 1)
        if faults:
            raise InputError(faults)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.propagation = propagation
        self.diag_lambda = float(diag_lambda)
        self.propagated_dropout = nn.Dropout(propagated_dropout) if propagated_dropout else None
        self.lin_out = Linear(in_channels, out_channels, bias=bias, weight_initializer="glorot")
        self.lin_root = (
            Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")
            if concatenated
            else None
        )

    def reset_parameters(self) -> None:
        """Draw the weights again."""
        super().reset_parameters()
        self.lin_out.reset_parameters()
        if self.lin_root is not None:
            self.lin_root.reset_parameters()

    @property
    def matrix(self) -> RowNormalisation:
        """P, from the degrees of the graph at hand."""
        return RowNormalisation(*PROPAGATIONS[self.propagation], self.diag_lambda)

    def forward(self, x: Tensor, edge_index: Any, edge_weight: Tensor | None = None) -> Tensor:
        """The convolution as PyG runs one; `edge_index` may be a sparse tensor, rows targets."""
        if is_sparse(edge_index):
            entries, edge_weight = to_edge_index(edge_index)
            edge_index = entries.flip(0)
        source, target = edge_index
        weight = x.new_ones(source.numel()) if edge_weight is None else edge_weight.to(x.dtype)
        weight = weight * (source != target)
        self_loop, identity = PROPAGATIONS[self.propagation]
        degree = x.new_zeros(x.size(0)).index_add(0, target, weight) + self_loop
        scale = torch.where(degree > 0, 1 / degree.where(degree > 0, 1.0), 0.0)
        own = (1 + self.diag_lambda) * (self_loop * scale + identity)
        # PyG reads the next line: propagate_type: (x: Tensor, edge_weight: Tensor)
        out = self.propagate(edge_index, x=x, edge_weight=weight * scale[target])
        out = out + own.unsqueeze(1) * x
        if self.propagated_dropout is not None:
            out, x = self.propagated_dropout(out), self.propagated_dropout(x)
        out = self.lin_out(out)
        return out if self.lin_root is None else out + self.lin_root(x)

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        """What an edge brings: its weight times its source, `[num_edges, channels]`."""
        return edge_weight.unsqueeze(1) * x_j

    @override
    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"{self.propagation!r}, diag_lambda={self.diag_lambda}, "
            f"concatenated={self.lin_root is not None})"
        )


class _Joined(nn.Module):
    """[X ‖ P X] W + b with the two halves of W of a convolution."""

    def __init__(self, lin_root: nn.Module, lin_out: nn.Module) -> None:
        super().__init__()
        self.lin_root, self.lin_out = lin_root, lin_out

    @override
    def forward(self, x: Tensor) -> Tensor:
        own, propagated = x.chunk(2, dim=1)
        return self.lin_root(own) + self.lin_out(propagated)


def _reading(conv: ClusterGCNConv) -> Propagation | None:
    lin, root = conv.lin_out, conv.lin_root
    if not is_plain_linear(lin) or not (root is None or is_plain_linear(root)):
        return None
    if conv.propagated_dropout is None:
        return Propagation(conv.matrix, weight=lin.weight, bias=lin.bias, root=root)
    if root is None:
        return Propagation(conv.matrix, then=(conv.propagated_dropout, lin))
    return Stacked(conv.matrix, then=(conv.propagated_dropout, _Joined(root, lin)))


register(ClusterGCNConv, propagation=_reading, hops=1)
