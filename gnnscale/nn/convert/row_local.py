"""Whether a function maps every row by itself, found out by running it on random rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gnnscale.errors import UnsupportedModel
from gnnscale.nn.blocks.modes import evaluation_mode

_ROWS, _WIDTH = 12, 8


@torch.no_grad()
def check_row_local(
    function: Callable[..., Any], widths: Sequence[int | None]
) -> Tensor | list[int]:
    """Run a function of rows on random rows and on some of them.

    Args:
        function: takes one tensor `[num_rows, width]` for each width.
        widths: channels of its arguments; None where unknown, and those of another are tried, or 8.

    Returns:
        Its output `[12, channels]`; or, where it returns a list of its own arguments, which.

    Raises:
        UnsupportedModel: it fails, mixes rows, draws random numbers or changes its arguments.
    """
    generator = torch.Generator().manual_seed(0)
    tried = next((width for width in widths if width is not None), _WIDTH)
    rows = [torch.randn(_ROWS, width or tried, generator=generator) for width in widths]
    some = torch.randperm(_ROWS, generator=generator)[: _ROWS // 2]
    given = [x.clone() for x in rows]
    with evaluation_mode(function if isinstance(function, nn.Module) else nn.Identity()):
        try:
            out, again = function(*given), function(*(x.clone() for x in rows))
            part = function(*(x[some] for x in rows))
        except Exception as error:
            raise _refusal(function, f"does not run on rows alone ({error!r})") from error
    if isinstance(out, list | tuple):
        which = [i for one in out for i, x in enumerate(given) if x is one]
        if len(which) < len(out):
            raise _refusal(function, "returns a list, and of other things than its arguments")
        return which
    if not (isinstance(out, Tensor) and out.dim() == 2 and out.size(0) == _ROWS):
        raise _refusal(function, "does not return one row for each row")
    changed = not all(torch.equal(x, y) for x, y in zip(given, rows, strict=True))
    if changed or not torch.equal(out, again):
        raise _refusal(function, "changes its arguments or draws random numbers (see nn.Dropout)")
    if part.shape != out[some].shape or not torch.allclose(part, out[some], 1e-4, 1e-5):
        raise _refusal(function, "mixes rows, which batches and chunks hold only some of")
    return out


def _refusal(function: Any, fault: str) -> UnsupportedModel:
    name = getattr(function, "__name__", type(function).__name__)
    return UnsupportedModel(
        f"{name} in a Sequential {fault}; use a module of torch or torch_geometric, or write the "
        "model as gs.nn.LayeredGNN([gs.nn.Block(conv), …])"
    )
