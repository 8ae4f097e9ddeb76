"""A module's own `forward` as blocks: followed by torch.fx, and proven on a random graph.

What runs is recorded on stand-ins for values: convolutions, norms and other layers as they are, and
functions (`F.relu`, `+`, `torch.cat`) between them. So a loop over layers is read as what it does,
and residuals and concatenations are slots of the blocks. What depends on the values themselves
cannot be recorded, and is refused; so is whatever then gives another output than the module.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch_geometric.data import Data
from torch_geometric.nn import MessagePassing
from typing_extensions import override

from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.graph import Adjacency
from gnnscale.nn.blocks.block import Chain
from gnnscale.nn.blocks.context import Context, run_phases
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.blocks.phases import Dropout, Features, Phase
from gnnscale.nn.blocks.widths import channels
from gnnscale.nn.convert.sequential import GRAPH, Meaning, Reader, meanings_of
from gnnscale.nn.convs.networks import is_norm
from gnnscale.nn.convs.propagation import densify, is_convolution
from gnnscale.nn.convs.taken import CARRIED
from gnnscale.nn.modules import is_intercepted

_DATA = "data"  # one argument that holds all, as in PyG's `forward(self, data)`
_ROWS, _EDGES, _WIDTH = 24, 90, 8
_CLOSE = 1e-4  # of the greatest value; rounding in float32 leaves 1e-6, another model 1e-1


def has_own_forward(module: Any) -> bool:
    """Whether a module is of the user's own class, and no convolution."""
    own = isinstance(module, nn.Module) and not isinstance(module, MessagePassing)
    return own and not _is_of_library(module)


def _is_of_library(module: nn.Module) -> bool:
    return type(module).__module__.split(".")[0] in ("torch", "torch_geometric")


class _Followed(fx.Tracer):
    @override
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if _is_of_library(m) or is_norm(m) or is_intercepted(m):  # what is watched runs as it is
            return True
        inside = any(is_convolution(part) for part in m.modules() if part is not m)
        return is_convolution(m) and not inside


def follow(model: nn.Module) -> fx.Graph:
    """What a module's forward runs, recorded in training mode on a copy.

    Raises:
        UnsupportedModel: it cannot be recorded: what it does depends on values.
    """
    if is_intercepted(model):
        raise refusal(model, "it has hooks or a replaced forward, which blocks would skip")
    try:
        graph = _Followed().trace(copy.deepcopy(model).train())
    except Exception as error:
        words = str(error).partition("\n")[0]
        fault = f"what it does depends on values, or they are no tensors ({words})"
        raise refusal(model, fault) from error
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    return graph


def chains_of(graph: fx.Graph, model: nn.Module) -> list[Chain]:
    """The blocks of what was recorded, of the modules of `model`.

    Raises:
        UnsupportedModel: naming what blocks cannot express.
    """
    try:
        return _Calls(graph, model).chains()
    except (InputError, UnsupportedModel) as error:
        raise refusal(model, str(error)) from error


def _inputs_of(graph: fx.Graph) -> dict[str, Meaning]:
    """What the arguments of a forward stand for, by name."""
    given = [node for node in graph.nodes if node.op == "placeholder"]
    alone = len(given) == 1 and all(user.target is getattr for user in given[0].users)
    return {str(given[0].target): _DATA} if alone else meanings_of([str(n.target) for n in given])


class _Calls:
    """Puts recorded calls into a flow."""

    def __init__(self, graph: fx.Graph, model: nn.Module) -> None:
        self._graph, self._model, self._reader = graph, model, Reader()
        self._inputs = _inputs_of(graph)
        self._known: dict[fx.Node, Meaning] = {}

    def chains(self) -> list[Chain]:
        *nodes, output = self._graph.nodes
        for node in nodes:
            self._known[node] = self._call(node)
        return self._reader.chains(self._model, self._read(output.args[0]))

    def _read(self, argument: object) -> Meaning:
        """What an argument stands for."""
        if isinstance(argument, fx.Node):
            return self._known[argument]
        values = [self._read(own) for own in argument] if isinstance(argument, list | tuple) else []
        numbers = [value for value in values if isinstance(value, int)]
        if not numbers or len(numbers) < len(values):
            raise UnsupportedModel(f"a layer is given {argument!r}, or it is returned")
        return numbers

    def _call(self, node: fx.Node) -> Meaning:
        if node.op == "placeholder":
            return self._inputs[str(node.target)]
        if node.op == "get_attr":
            raise UnsupportedModel(f"{node.target!r} is used, which is no layer")
        if node.op == "call_module":
            return self._layer(self._model.get_submodule(str(node.target)), node)
        function = _Function(node)
        values = [self._known[own] for own in node.all_input_nodes]
        if values == [_DATA] and node.target is getattr:
            return _of_data(str(node.args[1]))
        rows = [value for value in values if isinstance(value, int)]
        if len(rows) < len(values):
            raise UnsupportedModel(f"{function.__name__} reads more than rows, as layers alone do")
        if node.target is functional.dropout:
            p, training = _of_dropout(node.args, node.kwargs)
            return self._reader.rows(nn.Dropout(p), rows) if training else rows[0]
        return self._reader.rows(function.as_layer() or function, rows)

    def _layer(self, module: nn.Module, node: fx.Node) -> Meaning:
        signature = inspect.signature(module.forward)
        bound = signature.bind(*node.args, **node.kwargs)
        bound.apply_defaults()
        if any(isinstance(own, fx.Node) for own in bound.kwargs.values()):
            raise UnsupportedModel(f"{type(module).__name__} is given arguments by keyword alone")
        usual = [own.default for own in signature.parameters.values()]
        given = [
            None if not isinstance(own, fx.Node) and own in usual else self._read(own)
            for own in bound.args
        ]
        while given and given[-1] is None:
            given.pop()
        return self._reader.call(module, given)


def _of_data(name: str) -> Meaning:
    meanings = meanings_of(["x", "edge_index", name])
    if meanings[name] not in (0, GRAPH, *CARRIED):
        raise UnsupportedModel(f"data.{name} is read")
    return meanings[name]


def _of_dropout(args: Iterable[object], kwargs: Mapping[str, object]) -> tuple[float, bool]:
    bound = inspect.signature(functional.dropout).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments["p"], bound.arguments["training"]


@dataclass(frozen=True)
class _Place:
    at: int


class _Function:
    """A recorded call of a function or method, as a function of the values that it reads."""

    def __init__(self, node: fx.Node) -> None:
        places = {own: _Place(at) for at, own in enumerate(node.all_input_nodes)}
        self._target = node.target
        self._args = [_replaced(own, places) for own in node.args]
        self._kwargs = {name: _replaced(own, places) for name, own in node.kwargs.items()}
        self.__name__ = str(getattr(node.target, "__name__", node.target))

    def __call__(self, *values: Tensor) -> object:
        given = {_Place(at): value for at, value in enumerate(values)}
        args = [_replaced(own, given) for own in self._args]
        kwargs = {name: _replaced(own, given) for name, own in self._kwargs.items()}
        if callable(self._target):
            return self._target(*args, **kwargs)
        return getattr(args[0], self._target)(*args[1:], **kwargs)

    def as_layer(self) -> nn.Module | None:
        """The layer of torch that does the same, which blocks know; None where there is none."""
        kind = _LAYERS.get(self.__name__.removesuffix("_"))
        if kind is None or self._args[:1] != [_Place(0)]:
            return None
        in_place = {"inplace": True} if self.__name__.endswith("_") else {}
        try:
            return kind(*self._args[1:], **self._kwargs, **in_place)
        except TypeError:
            return None


def _replaced(argument: object, places: Mapping[Any, object]) -> object:
    """An argument with others in the place of what it holds, in lists and slices too."""
    if isinstance(argument, slice):
        ends = (argument.start, argument.stop, argument.step)
        return slice(*(_replaced(own, places) for own in ends))
    if isinstance(argument, list | tuple):
        inner = [_replaced(own, places) for own in argument]
        return tuple(inner) if isinstance(argument, tuple) else inner
    return places.get(argument, argument) if isinstance(argument, fx.Node | _Place) else argument


_LAYERS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "log_softmax": nn.LogSoftmax,
}


@torch.no_grad()
def prove(graph: fx.Graph, model: nn.Module, layered: LayeredGNN) -> None:
    """Compare a module with its blocks, both on the CPU, on a random graph in both modes.

    In training, dropout scales rows by one plus its probability in either.

    Args:
        graph: what was recorded of it.
        model: the module.
        layered: its blocks.

    Raises:
        UnsupportedModel: the module does not run there, or gives another output.
    """
    inputs = list(_inputs_of(graph).values())
    edges, given = _random_graph(graph, model, inputs)
    failure: Exception | None = None
    own = [layered.in_channels, *(channels(part, "in") for part in model.modules()), _WIDTH]
    for width in dict.fromkeys(width for width in own if width is not None):
        x = torch.randn(_ROWS, width, generator=torch.Generator().manual_seed(0))
        given["x"] = x
        try:
            _run(model.eval(), inputs, given)
            break
        except Exception as error:  # whatever a user's forward raises
            failure = failure or error
    else:
        raise refusal(model, f"it does not run on a random graph ({failure})") from failure
    weights = [given["edge_weight"]]
    if weights != [None] and _may_be_none(graph):
        weights.append(None)
    for training, weight in product((False, True), weights):
        given["edge_weight"] = weight
        adj = Adjacency.with_permutation(edges, _ROWS, weight)[0]
        context = Context(adj, training, runner=_run_marked if training else run_phases)
        context.edge_attr, context.edge_type = given["edge_attr"], given["edge_type"]
        context.node_type, context.batch = given["node_type"], given["batch"]
        with torch.random.fork_rng(devices=[]):
            theirs = _run(model.train(training), inputs, given)
            layered.train(training)
            ours = layered(x, adj, context=context)
        room = _CLOSE * float(theirs.abs().max())
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs, 0.0, room, True):
            mode = "training" if training else "evaluation"
            hint = "" if training else "; F.dropout without training=self.training drops there too"
            raise refusal(model, f"in {mode} mode its output is not that of its layers{hint}")


def _random_graph(
    graph: fx.Graph, model: nn.Module, inputs: Sequence[Meaning]
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Edges in the order of an adjacency, and what the forward reads of their and nodes' values."""
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(_ROWS - 4, (2, _EDGES), generator=generator)
    edges = edges[:, edges[0] != edges[1]].unique(dim=1)
    edges = Adjacency.with_permutation(edges, _ROWS)[0].edge_index
    count = edges.size(1)
    dims = [getattr(part, name, None) for part in model.modules() for name in ("edge_dim", "dim")]
    dim = next((dim for dim in dims if isinstance(dim, int) and dim > 0), _WIDTH)
    values = {
        "edge_weight": torch.rand(count, generator=generator) + 0.5,
        "edge_attr": torch.randn(count, dim, generator=generator),
        "edge_type": torch.zeros(count, dtype=torch.int64),
        "node_type": torch.zeros(_ROWS, dtype=torch.int64),
        "batch": torch.zeros(_ROWS, dtype=torch.int64),
    }
    of_data = {str(node.args[1]) for node in graph.nodes if node.target is getattr}
    read = {str(own) for own in inputs} | (of_data if _DATA in inputs else set())
    given = {name: value if name in read else None for name, value in values.items()}
    return edges, {"edge_index": edges, **given}


def _may_be_none(graph: fx.Graph) -> bool:
    """Whether a forward says that it runs without weights, or reads them off an object."""
    given = {str(node.target): node for node in graph.nodes if node.op == "placeholder"}
    found = [given[name] for name, own in _inputs_of(graph).items() if own == "edge_weight"]
    return all(node.args == (None,) for node in found)


def _run(model: nn.Module, inputs: Sequence[Meaning], given: Mapping[str, Tensor | None]) -> Tensor:
    values = {**given, _DATA: Data(**given), "0": given["x"]}
    with _MarkedDropout():
        return model(*(values.get(str(own)) for own in inputs))


class _MarkedDropout(TorchFunctionMode):
    """While it is on, dropout in training scales by one plus its probability."""

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not functional.dropout:
            return func(*args, **kwargs)
        p, training = _of_dropout(args, kwargs)
        return args[0] * (1 + p) if training else args[0]


def _run_marked(
    block: nn.Module | None, phases: Sequence[Phase], x: Features, context: Context
) -> Features:
    with _MarkedDropout():
        for phase in phases:
            if isinstance(phase, Dropout):
                x = densify(phase.activate(x, context)) * (1 + phase.p)
            else:
                x = phase(x, context)
    return x


def refusal(model: nn.Module, fault: str) -> UnsupportedModel:
    """The error of a module that is not read, with the line that works."""
    name = next((name for name, own in model.named_children() if _are_layers(own)), None)
    own = [name for name, module in model.named_children() if is_convolution(module)]
    layers = f"model.{name}" if name else f"[{', '.join(f'model.{name}' for name in own)}]"
    line = f'gs.nn.as_layered({layers}, act="relu", dropout=0.5), or ' if name or own else ""
    return UnsupportedModel(
        f"the forward of {type(model).__name__} cannot be read as blocks: {fault}. Say what stands "
        f"between its layers: {line}gs.nn.LayeredGNN([gs.nn.Block(conv), …])"
    )


def _are_layers(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList) and any(map(is_convolution, module))
