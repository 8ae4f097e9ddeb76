"""From arrays that a format has read to the graph that was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnnscale.data.formats.array_graphs import graph_from_arrays
from gnnscale.data.preprocessing import preprocess
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.names import NodeNames
from gnnscale.graph.schema import Schema
from gnnscale.storage.arrow import pyarrow


def graph_of(
    arrays: Mapping[str, np.ndarray],
    path: Path,
    given: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    *,
    names: NodeNames | None = None,
    schema: Schema | None = None,
) -> Graph:
    """Make the graph of arrays, by the options that were given for it.

    Args:
        arrays: as `graph_from_arrays` takes them.
        path: where they are from; called so unless `defaults` or the arrays name it.
        given: what `registry.OPTIONS` names.
        defaults: what is taken where nothing is given.
        names: what the nodes are called.
        schema: what classes and features are called.

    Raises:
        InputError: arrays or options are faulty; all faults that can be told together.
    """
    wanted = {"name": path.name.split(".")[0], **(defaults or {}), **given}
    steps = wanted.pop("preprocessing", ())
    graph = graph_from_arrays(arrays, path, **wanted)
    if graph.x is not None:
        try:
            graph.x = preprocess(graph.x, steps, graph.train_mask)
        except InputError as error:
            raise InputError([f"{path}: {fault}" for fault in error.faults]) from error
    elif steps:
        raise InputError(f"{path}: preprocessing {', '.join(steps)}, but there are no features")
    graph.names, graph.schema = names, schema
    return graph


def classes_of(labels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number labels that are text in the order of their names: classes `[rows]`, and the names.

    An empty label is none, -1.
    """
    names = sorted({label for label in labels if label})
    number = {name: i for i, name in enumerate(names)} | {"": -1}
    return np.array([number[label] for label in labels], np.int64), tuple(names)


def names_of(ids: Sequence[str]) -> NodeNames | None:
    """What nodes are called: integers where all are, else text; None where it is 0, 1, 2, …."""
    if all(re.fullmatch("0|[1-9][0-9]{,17}", name) for name in ids):  # as int64 holds them
        numbers = np.array([int(name) for name in ids], np.int64)
        plain = np.array_equal(numbers, np.arange(len(ids)))
        return None if plain else NodeNames(torch.from_numpy(numbers))
    return NodeNames.from_arrow(pyarrow.array(ids, pyarrow.large_string()))
