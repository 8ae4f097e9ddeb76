"""The commands together, and what a mistake, an interrupt and a bug look like."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

import gnnscale
from gnnscale.cli.append import append
from gnnscale.cli.bench import bench
from gnnscale.cli.console import err, error_line, line, show_log, show_warning, speak
from gnnscale.cli.import_files import import_files
from gnnscale.cli.info import info
from gnnscale.cli.listing import datasets, formats
from gnnscale.cli.options import Verbose
from gnnscale.cli.partition import partition
from gnnscale.cli.planning.machine import machine
from gnnscale.cli.planning.plan import plan
from gnnscale.cli.runs import evaluate, predict
from gnnscale.cli.train import train
from gnnscale.cli.words import Words
from gnnscale.errors import GnnscaleError

MISTAKE, INTERRUPTED = 2, 130

# What the system says of a path that a user gave. Other errors are bugs and keep their traceback.
_PATH_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)


class Commands(TyperGroup):
    """Turns a user's mistake into one line and exit code 2."""

    @override
    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As typer's, but a mistake in the options is told as every other mistake is."""
        given = (args, prog_name, complete_var, False, windows_expand_args)
        if not standalone_mode:
            return super().main(*given, **extra)
        try:
            code = super().main(*given, **extra)
        except Exception as error:
            # By attribute: where this class lives differs between versions of typer.
            if not hasattr(error, "format_message"):
                raise
            context = getattr(error, "ctx", None)
            path = context.command_path if context is not None else "gnnscale"
            error_line(error.format_message(), f"try: {path} --help")
            code = MISTAKE
        raise SystemExit(code if isinstance(code, int) else 0)

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer's; what the library says from here on is said in this command's words."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            speak(Words(command).said)
        return name, command, rest

    @override
    def invoke(self, ctx: Any) -> Any:
        """Run a command; see the class."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            line("interrupted", console=err)
            raise typer.Exit(INTERRUPTED) from None
        except GnnscaleError as error:
            error_line(str(error))
        except _PATH_ERRORS as error:
            error_line(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        raise typer.Exit(MISTAKE)


app = typer.Typer(
    name="gnnscale",
    cls=Commands,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # a bug shows Python's own traceback, whole
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        line(f"gnnscale {gnnscale.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Train graph neural networks on graphs too large for full-batch training.

    [bold]First steps[/bold]

    gnnscale datasets [dim]# what there is to train on[/dim]

    gnnscale info wordnet [dim]# what a data set is, measured[/dim]

    gnnscale plan --dataset wordnet --memory 2GB [dim]# what fits, and how long it takes[/dim]

    gnnscale train --dataset wordnet [dim]# train, evaluate exactly, compare with baselines[/dim]

    gnnscale predict runs/wordnet-sage --out predictions.csv [dim]# use what was trained[/dim]

    gnnscale import edges.csv nodes.csv --labels team --out g [dim]# a graph of your own[/dim]

    The options are the Python arguments: --num-parts 150 is ClusterTrainer(num_parts=150). Every
    command explains itself: gnnscale train --help.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


app.command("import")(import_files)
for command in (
    *(plan, train, evaluate, predict, bench, partition),
    *(append, info, datasets, formats, machine),
):
    app.command()(command)


def main() -> None:
    """The script `gnnscale`."""
    show_log(verbose=False)
    warnings.showwarning = show_warning
    app(prog_name="gnnscale")
