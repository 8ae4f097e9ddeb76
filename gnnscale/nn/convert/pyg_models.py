"""as_layered: PyG models and lists of convolutions as LayeredGNN, sharing parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch_geometric.nn import MessageNorm, Sequential
from torch_geometric.nn.models.basic_gnn import BasicGNN
from torch_geometric.nn.models.deepgcn import DeepGCNLayer
from typing_extensions import override

from gnnscale.choices import choices_checked
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn.blocks.block import Block, Chain
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.blocks.widths import holds_matrix
from gnnscale.nn.convert.own_forward import chains_of, follow, has_own_forward, prove
from gnnscale.nn.convert.sequential import read_list, read_sequential
from gnnscale.nn.convs.propagation import is_convolution
from gnnscale.nn.modules import as_written, has_hooks, is_intercepted


class LayeredPyG(LayeredGNN):
    """A LayeredGNN over a PyG model: the same parameters under the same state-dict keys."""

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[Block | Chain],
        head: nn.Module | None,
        jk: Literal["cat", "max"] | None,
    ) -> None:
        self._model = [model]  # in a list, so that it is not registered beside its own children
        super().__init__(blocks, head, jk=jk)
        self.training = model.training

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_model":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @override
    def _register(self, blocks: Sequence[Block | nn.Module], head: nn.Module | None) -> None:
        # Registered are the PyG model's own children, so the state-dict keys are PyG's.
        self.__dict__["blocks"] = list(blocks)
        self.__dict__["head"] = head
        for name, child in self._model[0].named_children():
            self.add_module(name, child)

    @override
    def to_pyg(self) -> nn.Module:
        """The PyG model behind this one, or a `Sequential` where it has what that has not.

        Residuals, message norms and norms before convolutions. Parameters are shared.
        """
        plain = all(map(_is_pygs, self.blocks))
        if not plain:
            return super().to_pyg()
        self._model[0].training = self.training
        return self._model[0]


_ORDERS = ("conv-norm-act-dropout", "conv-act-norm-dropout")


def _is_pygs(block: Block | Chain) -> bool:
    """Whether PyG's model behind a block runs it as it stands."""
    if isinstance(block, Chain):
        return True
    reordered = block.norm is not None and block.order not in _ORDERS
    return not (block.residual or reordered or isinstance(block.norm, MessageNorm))


@choices_checked
def as_layered(
    model: Any,
    *,
    norm: str | Callable[[int], nn.Module] | None = None,
    act: str | Callable | None = "relu",
    dropout: float = 0.0,
    residual: bool = False,
) -> LayeredGNN:
    """Read a model as a `LayeredGNN`. Parameters are shared, not copied.

    Args:
        model: a `LayeredGNN` (returned as it is), a PyG `BasicGNN` (GCN, GraphSAGE, GIN, GAT, …),
            `torch_geometric.nn.Sequential`, or a list (`nn.ModuleList`, `nn.Sequential`) of
            convolutions, linear layers and blocks, or of PyG's `DeepGCNLayer`. A list with norms,
            activations, dropouts or `DeepGCNLayer`s in it says itself what stands between, and so
            does `nn.Sequential`: nothing is put there. Or a module with a `forward`
            of its own, as in PyG's examples, whose layers follow one another: loops over them, and
            functions (`F.relu`, `F.dropout`, `+`, `torch.cat`) between them, are read off it. Its
            output on a random graph is compared with that of the blocks, in evaluation and in
            training. Its state-dict keys stay its own, and `to_pyg()` gives it back. A
            `log_softmax` at the end stays: log-probabilities have the cross-entropy of logits.
        norm: for a list: between convolutions, a name PyG's resolver knows or a function of width.
        act: for a list: between convolutions.
        dropout: for a list: between convolutions.
        residual: add a block's input to its output where both are hidden layers.

    Raises:
        InputError: norm, dropout or residual are given for what says itself what it does.
        UnsupportedModel: naming what cannot be expressed; of a module's own forward, with the line
            that says the same of its layers.

    Example:
        >>> import torch, gnnscale as gs
        >>> from torch.nn import functional as F
        >>> from torch_geometric.nn import SAGEConv
        >>> class SAGE(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.convs = torch.nn.ModuleList([SAGEConv(100, 64), SAGEConv(64, 47)])
        ...
        ...     def forward(self, x, edge_index):
        ...         for conv in self.convs[:-1]:
        ...             x = F.dropout(conv(x, edge_index).relu(), 0.5, self.training)
        ...         return self.convs[-1](x, edge_index)
        >>> model = gs.nn.as_layered(SAGE())
        >>> [type(phase).__name__ for phase in model.phases[0]]
        ['Propagate', 'Dropout']
        >>> model = gs.nn.as_layered(SAGE().convs, act="relu", dropout=0.5)  # the same in one line
    """
    model = as_written(model)
    if isinstance(model, LayeredGNN):
        return model
    if isinstance(model, BasicGNN):
        return _from_basic_gnn(model, residual)
    if isinstance(model, Sequential):
        return LayeredPyG(model, read_sequential(model), None, None)
    if isinstance(model, nn.Sequential) and has_hooks(model):
        raise UnsupportedModel("nn.Sequential has hooks, which blocks would skip")
    if isinstance(model, list | tuple | nn.ModuleList | nn.Sequential):
        modules = [as_written(module) for module in model]
        for module in modules:
            if not isinstance(module, nn.Module):
                raise UnsupportedModel(f"{module!r} in the list is no module of torch")
        explicit = isinstance(model, nn.Sequential) or any(map(_stands_between, modules))
        if not (modules and explicit):
            return _from_list(modules, norm, act, dropout, residual)
        if norm is not None or dropout or residual:
            raise InputError(
                "norm, dropout and residual go with a list of convolutions; this one has norms, "
                "activations or dropouts of its own"
            )
        return LayeredGNN(read_list(modules))
    if has_own_forward(model):
        if norm is not None or dropout or residual:
            raise InputError(
                f"norm, dropout and residual go with a list of convolutions; the forward of "
                f"{type(model).__name__} says itself what stands between them"
            )
        return _from_forward(model)
    raise UnsupportedModel(
        f"cannot read {type(model).__name__} as layers. Give a PyG BasicGNN or Sequential, a list "
        "of convolutions, or gs.nn.LayeredGNN([gs.nn.Block(conv), …])"
    )


def _stands_between(module: nn.Module) -> bool:
    """Whether a module in a list is no layer that others stand between."""
    layer = isinstance(module, Block) or is_convolution(module) or holds_matrix(module)
    return isinstance(module, DeepGCNLayer) or not layer


def _from_basic_gnn(model: Any, residual: bool) -> LayeredPyG:
    if type(model).forward is not BasicGNN.forward:
        raise UnsupportedModel(
            f"{type(model).__name__} has a forward of its own, so its layers cannot be read off; "
            "write it as gs.nn.LayeredGNN([gs.nn.Block(conv), …])"
        )
    if is_intercepted(model):
        raise UnsupportedModel(
            f"{type(model).__name__} has hooks or a replaced forward, which layers would skip; "
            "put them on its convolutions, or on the LayeredGNN"
        )
    jk = model.jk_mode
    if jk == "lstm":
        raise UnsupportedModel(
            "jumping knowledge by LSTM reads all layers of a node at once, which exact inference "
            "in chunks does not keep; use jk='cat' or jk='max'"
        )
    order = _ORDERS[bool(model.act_first)]
    supported = {"edge_weight": model.supports_edge_weight, "edge_attr": model.supports_edge_attr}
    blocks = []
    for i, (conv, norm) in enumerate(zip(model.convs, model.norms, strict=True)):
        plain = i == model.num_layers - 1 and jk is None
        blocks.append(
            Block(
                conv,
                norm=None if plain or isinstance(norm, nn.Identity) else norm,
                act=None if plain else model.act,
                dropout=0.0 if plain else model.dropout,
                order=order,
                residual=residual and i > 0 and not plain,
                takes=[name for name, given in supported.items() if given],
            )
        )
    head = getattr(model, "lin", None)
    return LayeredPyG(model, blocks, head, jk if jk in ("cat", "max") else None)


def _from_forward(model: nn.Module) -> LayeredPyG:
    graph = follow(model)
    twin = copy.deepcopy(model).to("cpu", torch.float32)
    prove(graph, twin, LayeredPyG(twin, chains_of(graph, twin), None, None))
    return LayeredPyG(model, chains_of(graph, model), None, None)


def _from_list(
    convs: list[Any],
    norm: str | Callable[[int], nn.Module] | None,
    act: str | Callable | None,
    dropout: float,
    residual: bool,
) -> LayeredGNN:
    blocks = []
    for i, conv in enumerate(convs):
        last = i == len(convs) - 1
        if isinstance(conv, Block):
            blocks.append(conv)
        elif last:
            blocks.append(Block(conv, act=None))
        else:
            own = copy.deepcopy(norm) if isinstance(norm, nn.Module) else norm
            blocks.append(Block(conv, own, act, dropout, residual=residual and i > 0))
    return LayeredGNN(blocks)
