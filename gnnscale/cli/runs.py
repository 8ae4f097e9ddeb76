"""`gnnscale evaluate` and `gnnscale predict`: what a run has learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from gnnscale.cli import options as o
from gnnscale.cli.console import err, line, out, plain
from gnnscale.cli.reading import are_tables, dataset_of, taken, with_reading_options
from gnnscale.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from gnnscale.graph import NodeNames
    from gnnscale.train import Run

Folder = Annotated[
    Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)
]


def evaluate(
    run: Folder,
    on: Annotated[
        Literal["test", "val", "train", "all"],
        typer.Option(help="On which nodes of the split."),
    ] = "test",
    by_class: Annotated[
        bool, typer.Option("--by-class", help="Precision, recall and F1 of every class as well.")
    ] = False,
    dataset: o.GraphOfRun = None,
    device: o.DeviceOfRun = None,
    verbose: o.Verbose = False,
) -> None:
    """Evaluate the model of a run exactly, on the full graph, each node once.

    [bold]Examples[/bold]

    gnnscale evaluate runs/wordnet-sage

    gnnscale evaluate runs/wordnet-sage --on all

    gnnscale evaluate runs/wordnet-sage --by-class
    """
    opened = _open(run, dataset, device)
    trainer = opened.trainer
    if on != "all" and trainer.sets and on not in trainer.sets:
        listed = ", ".join(trainer.sets)
        raise InputError(f"the split has no {on} nodes; --on all evaluates what it has: {listed}")
    with err.status("exact inference on the full graph"):
        if on == "all":
            split = trainer.graph.split(trainer.config.split)
            there = [name for name in ("train", "val", "test") if split and bool(split[name].any())]
            found = {name: trainer.evaluate(name) for name in there}
        else:
            found = {on: trainer.evaluate(on)}
        classes = {where: trainer.evaluate_classes(where) for where in found if by_class}
    table = Table("")
    for name in next(iter(found.values()), {}):
        table.add_column(plain(name), justify="right")
    for where, metrics in found.items():
        table.add_row(plain(where), *(f"{value:.4f}" for value in metrics.values()))
    out.print(table)
    for where, figures in classes.items():
        out.print(_table_of_classes(where, figures))


def _table_of_classes(where: str, figures: dict[str, dict[str, float]]) -> Table:
    table = Table(where)
    for name in next(iter(figures.values()), {}):
        table.add_column(name, justify="right")
    for name, row in figures.items():
        shown = [f"{v:,}" if k == "rows" else "-" if v != v else f"{v:.4f}" for k, v in row.items()]
        table.add_row(plain(name), *shown)
    return table


@with_reading_options()
def predict(
    run: Folder,
    to: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            help="File to write: .parquet or .csv, keyed by id, or .npy.",
            show_default=False,
        ),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[EDGES [NODES]]",
            help="Other tables than the run's, as next month's: features are made as then.",
            show_default=False,
        ),
    ] = None,
    nodes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Ids of nodes, as the graph's own files have them (of a graph trainer's run: "
            "numbers of graphs): .npy, or the column of ids of .csv, .txt or .parquet. A .npy may "
            "be a mask of booleans.",
            show_default="all nodes",
        ),
    ] = None,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="What the last layer reads, not what it puts out.")
    ] = False,
    dataset: o.GraphOfRun = None,
    device: o.DeviceOfRun = None,
    verbose: o.Verbose = False,
    **given: Any,
) -> None:
    """Write the model's exact output for all nodes, or some, as a table or an array.

    A table (.parquet, .csv) has a row a node: its id as in the files that the graph comes from, the
    predicted class by its name, and the probability of each. An array (.npy) has the bare outputs,
    one column a class, label or target, in the graph's own order (or that of --nodes).

    [bold]Examples[/bold]

    gnnscale predict runs/wordnet-sage --out predictions.csv

    gnnscale predict runs/team-sage --out some.parquet --nodes people.txt

    gnnscale predict runs/team-sage edges-june.parquet people-june.csv --out june.csv

    gnnscale predict runs/wordnet-sage --out embeddings.npy --embeddings
    """
    from gnnscale.storage.files import check_writable

    if to.suffix not in (".npy", ".csv", ".parquet"):
        raise InputError(f"--out {to}: name it .parquet or .csv for a table, .npy for an array")
    check_writable(to, f"--out {to}")
    array = None if nodes is None or nodes.suffix != ".npy" else _read_array(nodes)
    said = taken(given)
    if dataset is None and not files:
        if said:
            raise InputError(f"--{next(iter(said))} is of tables, and none are given")
        opened = _open(run, None, device)
    else:
        opened = _open(run, dataset_of(dataset, files or (), said), device)
    wanted = None if nodes is None else _wanted(nodes, array, opened.trainer.names)
    verb = opened.trainer.embed if embeddings else opened.trainer.predict
    with err.status("exact inference on the full graph"):
        written = verb(nodes=wanted, out=to)
    what = "embeddings" if embeddings else "outputs"
    rows = "graphs" if type(opened.trainer).__name__ == "GraphTrainer" else "nodes"
    count, columns = written.shape
    held = f"{columns:,} columns of {written.dtype}" if to.suffix == ".npy" else "keyed by id"
    line(f"{to}: {what} of {count:,} {rows}, {held}")


def _open(run: Path, dataset: str | None, device: str | None) -> Run:
    from gnnscale.cli.sources import open_data
    from gnnscale.train import load_run

    if not (run / "run.json").is_file():
        raise InputError(f"there is no run in {run}: run.json is missing")
    graph = None
    if dataset is not None:
        told = _told_of_tables(run) if are_tables(dataset, ()) else {}
        graph = open_data(dataset, **told)
    with err.status(f"opening {run}"):
        opened = load_run(run, graph=graph, device=device)
    report = opened.report
    if report.stopped is None:
        done = f"{len(report.rows)} of {opened.trainer.config.epochs} epochs are done"
        if report.layers:
            layer = report.layers[-1]
            done = f"layer {layer['layer']} has had {layer['epochs']} epochs"
        line(f"the run is unfinished: {done}", console=err)
    return opened


def _told_of_tables(run: Path) -> dict[str, Any]:
    """How tables are read so that they make the features that the run's graph has."""
    from gnnscale.graph import Schema
    from gnnscale.train.run.folder import RunFolder

    about = RunFolder(run).describe()
    schema = Schema.from_json(about.get("schema"))
    if schema is None or schema.recipe is None:
        raise InputError(
            f"{run} was trained on a graph that was no table with features: give one that is read "
            "as it was, --dataset"
        )
    return {"recipe": schema}


def _read_array(path: Path) -> np.ndarray:
    import numpy as np

    try:
        nodes = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"--nodes {path} is no .npy file of numbers: {error}") from error
    if not isinstance(nodes, np.ndarray):
        raise InputError(f"--nodes {path} is an .npz; give one array, of ids or a mask, as .npy")
    return nodes


def _wanted(path: Path, array: np.ndarray | None, names: NodeNames | None) -> np.ndarray:
    """The numbers of the nodes whose ids are in a file; a mask as it is."""
    if array is None:
        from gnnscale.data.tables.id_list import read_id_list

        return read_id_list(path, names)
    if names is None or array.dtype.kind == "b":
        return array
    try:
        return names.find(array)
    except InputError as error:
        raise InputError(f"--nodes {path}: {error}") from error
