"""`gnnscale formats`: the files and folders that are read."""

from __future__ import annotations

from gnnscale.cli.console import line, listing, out, plain
from gnnscale.cli.options import Verbose


def formats(verbose: Verbose = False) -> None:
    """List the formats of files and folders that can be loaded by path.

    [bold]Examples[/bold]

    gnnscale formats

    gnnscale info ./web-Google.txt.gz [dim]# the format is told by name and content[/dim]

    gnnscale info './graph.txt?format=edges' [dim]# or said[/dim]
    """
    from gnnscale.data.formats.registry import list_formats

    table = listing("Formats")
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("looks like", ratio=2, overflow="fold")
    table.add_column("what it is", ratio=3, overflow="fold")
    table.add_column("streams", no_wrap=True)
    table.add_column("needs", no_wrap=True)
    for made in list_formats():
        streams = "yes" if made.streams else ""
        table.add_row(*map(plain, (made.name, made.looks, made.what, streams, made.needs or "")))
    out.print(table)
    line(
        "A path is written with a slash: gnnscale info ./graph.mtx. What streams is read in bounded"
    )
    line("memory. What a format needs is installed by pip install 'gnnscale[NAME]'. Options stand")
    line("behind a question mark: './graph.mtx?undirected=true', './graph.txt?format=edges'.")
