"""Norms and activations by name: the one place where a name becomes a layer."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch_geometric.nn import norm as pyg
from torch_geometric.nn import resolver

from gnnscale.errors import InputError
from gnnscale.nn.convs.networks import Call
from gnnscale.nn.norms import layers as ours

# Our own where there is one. PyG's for nodes of several types take more than rows.
_NORMS: dict[str, type[nn.Module]] = {
    name: getattr(ours, name, getattr(pyg, name))
    for name in pyg.__all__
    if not name.startswith("Hetero")
}
_SHORT = {"msg": "MessageNorm"}
# What norms call their width. Others take none: PyG's resolver would read it as PairNorm's scale
# and as MessageNorm's `learn_scale` (PyG 2.8.1).
_WIDTHS = frozenset(("channels", "in_channels", "num_features"))


def norm_class(name: str) -> type[nn.Module]:
    """The norm of a name; "graph_norm", "GraphNorm" and "graph" are one.

    Raises:
        InputError: there is none, naming what is near.
    """
    folded = {_folded(known): cls for known, cls in _NORMS.items()}
    folded |= {short: _NORMS[known] for short, known in _SHORT.items()}
    if (found := folded.get(_folded(name))) is not None:
        return found
    raise _unknown("norm", name, _NORMS)


def make_norm(
    norm: Any, width: int | None, arguments: Mapping[str, Any] | None, unsized: str
) -> nn.Module | None:
    """A norm for a layer, out of what the user gives.

    Args:
        norm: a module or None, returned as they are; a function of the width; or a name.
        width: channels of the rows that it normalises, None where the layer does not say.
        arguments: of the constructor, beside the width, where a name is given.
        unsized: where the width is missing, why: "EdgeConv has no out_channels".

    Raises:
        InputError: no norm has that name, the width is needed and unknown, or arguments are wrong.
    """
    if arguments is not None and not isinstance(arguments, Mapping):
        raise InputError(f"norm_kwargs={arguments!r}: a mapping of arguments by name, or None")
    if arguments and not isinstance(norm, str):
        raise InputError(f"norm_kwargs={dict(arguments)!r} go with a norm given by name")
    if norm is None or isinstance(norm, nn.Module):
        return norm
    cls = norm_class(norm) if isinstance(norm, str) else None
    if cls is None and not callable(norm):
        raise InputError(f"norm={norm!r}: a module, a function, a name or None")
    widths = () if cls is not None and not _takes_width(cls) else (width,)
    if None in widths:
        raise InputError(f"norm={norm!r}: {unsized} to size it by; give a module")
    if cls is None:
        return norm(*widths)
    try:
        return cls(*widths, **(arguments or {}))
    except (TypeError, ValueError) as error:
        parameters = list(inspect.signature(cls).parameters)[len(widths) :]
        raise InputError(
            f"norm={norm!r} cannot be built ({error}); norm_kwargs={{…}} may hold "
            f"{', '.join(parameters) or 'nothing'}"
        ) from error


def make_act(act: Any) -> nn.Module | None:
    """An activation, out of a module, a function, a name that PyG's resolver knows, or None.

    Raises:
        InputError: no activation has that name.
    """
    if act is None or isinstance(act, nn.Module):
        return act
    if isinstance(act, str):
        try:
            act = resolver.activation_resolver(act)
        except ValueError as error:
            known = re.findall(r"'(\w+)'", str(error).partition("among choices")[2])
            if not known:
                raise
            raise _unknown("act", act, known) from None
    elif not callable(act):
        raise InputError(f"act={act!r}: a module, a function, a name or None")
    return act if isinstance(act, nn.Module) else Call(act)


def _takes_width(cls: type[nn.Module]) -> bool:
    return next(iter(inspect.signature(cls).parameters), None) in _WIDTHS


def _folded(name: str) -> str:
    return re.sub("[_ -]|norm$", "", name.lower())


def _unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    folded = {_folded(found): found for found in sorted(known)}
    close = difflib.get_close_matches(_folded(name), folded, n=3)
    near = " or ".join(folded[key] for key in close) or ", ".join(sorted(known))
    return InputError(f"{kind}={name!r}: there is no such layer; did you mean {near}?")
