"""`gnnscale datasets`: what there is to train on. Reads cards only; needs no torch."""

from __future__ import annotations

from rich.table import Table

from gnnscale.cli.console import line, out
from gnnscale.cli.options import Verbose


def datasets(verbose: Verbose = False) -> None:
    """List the data sets that can be loaded by name.

    [bold]Examples[/bold]

    gnnscale datasets

    gnnscale info wordnet [dim]# all that is known of one, and measured figures[/dim]

    GNNSCALE_DATASETS=~/graphs gnnscale datasets [dim]# your own[/dim]
    """
    from gnnscale.data import find_data, list_cards

    table = Table(title="Data sets", title_justify="left")
    table.add_column("name", style="bold", no_wrap=True)
    table.add_column("what it is")
    for name in ("nodes", "edges", "classes"):
        table.add_column(name, justify="right")
    table.add_column("metric")
    for card in list_cards():
        counts = (card.num_nodes, card.num_edges, card.num_classes)
        title = card.title if find_data(card) else f"{card.title} [dim](not shipped)[/dim]"
        table.add_row(
            card.name, title, *(f"{count:,}" for count in counts), card.metric or card.task
        )
    out.print(table)
    line("Data that are not shipped are read from the folder that GNNSCALE_DATASETS names;")
    line("`gnnscale info NAME` says where they come from.")
    line("Also: a path to an .npz, a folder of arrays or a stored graph; and generated graphs,")
    line("such as synthetic:planted?nodes=10000&classes=10&homophily=0.8, or, made once and kept")
    line("on disk, synthetic:amazon2m?scale=0.25, like Amazon2M in size and character.")
