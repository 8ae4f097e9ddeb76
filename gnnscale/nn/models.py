"""Models by name: PyG's, with PyG's argument order and state-dict keys, as LayeredGNN."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from gnnscale.errors import InputError
from gnnscale.nn.block import Block
from gnnscale.nn.convert import as_layered
from gnnscale.nn.layered import LayeredGNN


def GCN(  # noqa: N802 - a model's name, as in PyG
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: str | None = None,
    *,
    residual: bool = False,
    **kwargs: Any,
) -> LayeredGNN:
    """Graph convolutional network (Kipf & Welling, ICLR 2017). PyG's arguments, plus `residual`.

    Example:
        >>> import gnnscale as gs
        >>> model = gs.nn.GCN(100, 64, num_layers=3, out_channels=47, norm="graph_norm")
    """
    return _build("GCN", locals())


def GraphSAGE(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: str | None = None,
    *,
    residual: bool = False,
    **kwargs: Any,
) -> LayeredGNN:
    """GraphSAGE (Hamilton et al., NeurIPS 2017). Arguments are PyG's, plus `residual`."""
    return _build("GraphSAGE", locals())


def GIN(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: str | None = None,
    *,
    residual: bool = False,
    **kwargs: Any,
) -> LayeredGNN:
    """Graph isomorphism network (Xu et al., ICLR 2019). Arguments are PyG's, plus `residual`.

    As in PyG, `norm` also stands inside every layer's MLP; there it is a phase of its own.
    """
    return _build("GIN", locals())


def GAT(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: str | None = None,
    *,
    residual: bool = False,
    **kwargs: Any,
) -> LayeredGNN:
    """Graph attention network (Veličković et al., ICLR 2018). Arguments are PyG's, plus `residual`.

    Attention is no fixed propagation, so the layers run PyG's own forward (opaque).
    """
    return _build("GAT", locals())


def MLP(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    norm: str | None = None,
    *,
    residual: bool = False,
) -> LayeredGNN:
    """A multi-layer perceptron on the node features: the baseline that sees no edge."""
    out_channels = hidden_channels if out_channels is None else out_channels
    widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [out_channels]
    blocks = []
    for i in range(num_layers):
        linear = nn.Linear(widths[i], widths[i + 1])
        if i == num_layers - 1:
            blocks.append(Block(linear, act=None))
        else:
            blocks.append(Block(linear, norm, act, dropout, residual=residual and i > 0))
    model = LayeredGNN(blocks)
    model.spec = _spec("MLP", {k: v for k, v in locals().items() if k in _MLP_ARGUMENTS})
    return model


_MLP_ARGUMENTS = frozenset(inspect.signature(MLP).parameters)
MODELS: dict[str, Callable[..., LayeredGNN]] = {
    "gcn": GCN,
    "sage": GraphSAGE,
    "gin": GIN,
    "gat": GAT,
    "mlp": MLP,
}


def from_spec(spec: dict[str, Any]) -> LayeredGNN:
    """Rebuild a model, with fresh parameters, from `model.spec`.

    Raises:
        InputError: no model has that name.
    """
    for build in MODELS.values():
        if build.__name__ == spec.get("model"):
            return build(**spec["arguments"])
    raise InputError(f"no model {spec.get('model')!r}; there are {sorted(MODELS)}")


def _build(name: str, arguments: dict[str, Any]) -> LayeredGNN:
    import torch_geometric.nn as pyg

    arguments.update(arguments.pop("kwargs"))
    spec = _spec(name, arguments)
    residual = arguments.pop("residual")
    model = as_layered(getattr(pyg, name)(**arguments), residual=residual)
    model.spec = spec
    return model


def _spec(name: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """What builds the model again, or None where an argument cannot be written as JSON."""
    import json

    try:
        return json.loads(json.dumps({"model": name, "arguments": arguments}))
    except TypeError:
        return None
