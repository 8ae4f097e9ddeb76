"""`gnnscale datasets` and `gnnscale formats`: what there is to load. Neither needs torch."""

from __future__ import annotations

from gnnscale.cli.console import line, listing, out, plain
from gnnscale.cli.options import Verbose


def datasets(verbose: Verbose = False) -> None:
    """List the data sets that can be loaded by name.

    [bold]Examples[/bold]

    gnnscale datasets

    gnnscale info wordnet [dim]# all that is known of one, and measured figures[/dim]

    GNNSCALE_DATASETS=~/graphs gnnscale datasets [dim]# your own[/dim]
    """
    from gnnscale.data import find_data, list_cards

    table = listing("Data sets")
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it is", ratio=1, no_wrap=True, overflow="ellipsis")
    for name in ("nodes", "edges", "labels"):
        table.add_column(name, justify="right", no_wrap=True)
    for card in list_cards():
        counts = (card.num_nodes, card.num_edges, card.num_classes)
        style = None if find_data(card) else "dim"
        table.add_row(plain(card.name), plain(card.title), *map(_short, counts), style=style)
    out.print(table)
    line(
        "Data of those in grey (not shipped) are read from the folder that GNNSCALE_DATASETS names,"
    )
    line("or fetched with --download (in Python gnnscale.load(NAME, download=True)) where OGB or")
    line("PyG have them; `gnnscale info NAME` says where they come from.")
    line("Also: a path to an .npz, a folder of arrays or a stored graph; and generated graphs,")
    line("such as synthetic:planted?nodes=10000&classes=10&homophily=0.8, or, made once and kept")
    line("on disk, synthetic:amazon2m?scale=0.25, like Amazon2M in size and character.")


def _short(count: int) -> str:
    """A count of at most four digits, for there are five columns: 2708, 14 k, 2.4 M, 1.6 G."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if count >= size:
            scaled = count / (1e3 if unit == "k" else size)
            return f"{scaled:.{0 if scaled >= 10 else 1}f} {unit}"
    return str(count)


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
