"""Sequences of modules as blocks: `torch_geometric.nn.Sequential`, and modules in a plain list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch_geometric.nn import JumpingKnowledge
from torch_geometric.nn import Sequential as PyGSequential
from torch_geometric.nn.models.deepgcn import DeepGCNLayer

from gnnscale.errors import UnsupportedModel
from gnnscale.nn.blocks.block import Chain
from gnnscale.nn.blocks.phases import concatenate, maximum
from gnnscale.nn.blocks.to_pyg import BlocksSequential
from gnnscale.nn.convert.flow import Flow, check_row_local
from gnnscale.nn.convs.networks import Call
from gnnscale.nn.convs.propagation import is_convolution
from gnnscale.nn.convs.taken import CARRIED, places, usual_name
from gnnscale.nn.modules import has_hooks, is_intercepted, parameters

GRAPH = "edge_index"
# What a name in a header stands for: a value of the flow, a list of them, or an input of the model.
Meaning = int | list[int] | str


def read_sequential(model: PyGSequential) -> list[Chain]:
    """A PyG `Sequential` as blocks. Headers say which convolution sees edge weights.

    Raises:
        UnsupportedModel: naming what cannot be expressed.
    """
    meanings = meanings_of(list(model.signature.param_dict))
    reader = Reader()
    return reader.chains(model, reader.sequential(model, list(meanings.values())))


def meanings_of(names: Sequence[str]) -> dict[str, Meaning]:
    """What the parameters of a model's forward stand for."""
    graphs = [name for name in names if name.startswith(("edge_index", "adj"))]
    features = next((name for name in ["x", *names] if name in names and name not in graphs), None)
    meanings: dict[str, Meaning] = {name: usual_name(name) for name in names}
    meanings |= {graphs[0]: GRAPH} if graphs else {}
    return meanings | ({features: 0} if features else {})


def read_list(modules: Sequence[nn.Module]) -> list[Chain]:
    """Modules that follow one another as blocks. Convolutions see all that edges carry."""
    reader = Reader()
    value = 0
    for module in modules:
        if isinstance(module, DeepGCNLayer):
            value = reader.deep_layer(module, [value], CARRIED)
        elif is_convolution(module):
            value = reader.flow.convolution(module, value, [], CARRIED)
        else:
            value = reader.flow.rows(module, value)
    return reader.flow.chains(value)


class Reader:
    """Follows headers and puts what modules do into a flow."""

    def __init__(self) -> None:
        self.flow = Flow()

    def chains(self, model: object, output: Meaning) -> list[Chain]:
        """What leads to the output, block by block."""
        if not isinstance(output, int):
            _refuse(model, "returns a list, and not one value")
        return self.flow.chains(output)

    def sequential(self, model: PyGSequential, given: Sequence[Meaning | None]) -> Meaning:
        """Follow a `Sequential`, its inputs being `given`."""
        if type(model) not in (PyGSequential, BlocksSequential) or has_hooks(model):
            _refuse(model, "has a forward or hooks of its own, which blocks would skip")
        known: dict[str, Meaning | None] = dict(
            zip(model.signature.param_dict, given, strict=False)
        )
        out: Meaning = 0
        extra = model.taken if isinstance(model, BlocksSequential) else {}
        for number, child in enumerate(model._children):
            also = frozenset(extra[number].names) if number in extra else frozenset()
            module = getattr(model, child.name)
            if missing := set(child.param_names) - set(known):
                _refuse(module, f"reads {missing.pop()!r}, which nothing before it returns")
            out = self.call(module, [known[name] for name in child.param_names], also)
            if len(child.return_names) == 1:
                known[child.return_names[0]] = out
            elif isinstance(out, list) and len(out) == len(child.return_names):
                known |= dict(zip(child.return_names, out, strict=True))
            else:
                _refuse(module, f"returns {', '.join(child.return_names)}, and not one value")
        return out

    def call(
        self,
        module: object,
        arguments: Sequence[Meaning | None],
        also: frozenset[str] = frozenset(),
    ) -> Meaning:
        """What a module or function returns for its arguments; `also`: what it is given of edges
        and nodes beside what its header says. None stands for an argument that is not given.
        """
        if isinstance(module, PyGSequential):
            return self.sequential(module, arguments)
        if type(module) is JumpingKnowledge and len(arguments) == 1:
            return self.jumping_knowledge(module, arguments[0])
        values = [argument for argument in arguments if isinstance(argument, int)]
        beside = list(arguments[len(values) :])
        if values != list(arguments[: len(values)]) or not values:
            _refuse(module, "takes lists or no node values, or takes them after the graph")
        if not beside:
            return self.rows(module, values)
        if beside[0] != GRAPH or not isinstance(module, nn.Module):
            _refuse(
                module,
                f"reads {beside[0]!r}; blocks see rows, edge_index and what the graph carries "
                "for edges and nodes, and modules alone see edges",
            )
        after = places(_convolution(module), len(values) - 1)
        if [own or there for own, there in zip(beside[1:], after, strict=False)] != after[
            : len(beside) - 1
        ]:
            names = list(parameters(_convolution(module)))[len(values) + 1 :]
            _refuse(
                module,
                f"takes {', '.join(names) or 'nothing'} after the graph, and its header gives "
                f"{', '.join(map(str, beside[1:]))}; call the model's inputs as forward does",
            )
        takes = also | CARRIED.intersection(beside[1:])
        if isinstance(module, DeepGCNLayer):
            return self.deep_layer(module, values, takes)
        return self.flow.convolution(module, values[0], values[1:], takes)

    def rows(self, module: Any, values: list[int]) -> Meaning:
        """What a row-local module or function returns."""
        if isinstance(module, nn.Module) and len(values) == 1:
            if is_convolution(module):
                _refuse(module, "is a convolution, and its header gives it no edge_index")
            if not (type(module) is nn.Sequential and _writes_over(module)):
                return self.flow.rows(module, values[0])
            for child in module:  # one by one: what the first makes of the value is read later
                values = [self.flow.rows(child, values[0])]
            return values[0]
        widths = [self.flow.widths[value] for value in values]
        out = check_row_local(module, widths)
        if not isinstance(out, Tensor):
            return [values[i] for i in out]
        width = None if None in widths else out.size(1)
        if len(values) == 1:
            return self.flow.function(Call(module), values[0], width)
        return self.flow.join(module, values, width)

    def jumping_knowledge(self, module: JumpingKnowledge, values: Meaning | None) -> int:
        """Jumping knowledge (Xu et al., ICML 2018) of a list of values."""
        if module.mode == "lstm":
            _refuse(
                module,
                "by LSTM reads all layers of a node at once, which exact inference in chunks does "
                "not keep; use 'cat' or 'max'",
            )
        if not isinstance(values, list) or is_intercepted(module):
            _refuse(module, "has hooks, or no list: (lambda x1, x2: [x1, x2], 'x1, x2 -> xs')")
        return self.flow.join(concatenate if module.mode == "cat" else maximum, values)

    def deep_layer(self, layer: DeepGCNLayer, values: list[int], takes: frozenset[str]) -> int:
        """PyG's DeepGCN layer (Li et al., ICCV 2019), in its four kinds, as one block."""
        if type(layer) is not DeepGCNLayer or is_intercepted(layer):
            _refuse(layer, "has a forward or hooks of its own, which blocks would skip")
        around = [
            module if isinstance(module, nn.Module) else Call(module)
            for module in (layer.norm, layer.act)
            if module is not None
        ]
        dropout = [nn.Dropout(layer.dropout)] if layer.dropout else []
        pre = layer.block == "res+"
        before, after, last = ([*around, *dropout], [], []) if pre else ([], around, dropout)
        first, value = len(self.flow), values[0]
        for module in before:
            value = self.flow.rows(module, value)
        value = self.flow.convolution(layer.conv, value, values[1:], takes)
        for module in after:
            value = self.flow.rows(module, value)
        if layer.block != "plain":
            join = concatenate if layer.block == "dense" else torch.add
            value = self.flow.join(join, [values[0], value])
        for module in last:
            value = self.flow.rows(module, value)
        self.flow.as_one_block(first)
        return value


def _writes_over(module: nn.Sequential) -> bool:
    """Whether a sequence of layers begins with one that works in place."""
    first = next(iter(module), None)
    return getattr(first, "inplace", False) and not is_intercepted(module)


def _convolution(module: Any) -> nn.Module:
    return module.conv if isinstance(module, DeepGCNLayer) else module


def _refuse(module: object, fault: str) -> NoReturn:
    name = getattr(module, "__name__", type(module).__name__)
    raise UnsupportedModel(f"{name} cannot be read as blocks: it {fault}")
