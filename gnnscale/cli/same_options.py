"""Options of one command that another has as well, declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable


def with_options_of(
    command: Callable[..., None], leave_out: Iterable[str]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command that ends in `**options` the options of another, where typer looks for them.

    Args:
        command: the other command.
        leave_out: names of its parameters that the command does not share.
    """
    theirs = inspect.signature(command, eval_str=True).parameters
    left = set(leave_out)

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        # Typer takes a default, or it asks for the option.
        shared = [p for name, p in theirs.items() if name not in left]
        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own, *shared)]
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in parameters}
        return function

    return decorate
