"""What makes a run the same run: its model and its task, described so that they can be compared."""

from __future__ import annotations

import hashlib
import re

from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.nn import LayeredGNN
from gnnscale.train.run.records import Description
from gnnscale.train.steps.additive import is_additive
from gnnscale.train.steps.learnt import shapes_of_task
from gnnscale.train.task import NodeTask, Task


def describe_model(model: LayeredGNN) -> Description:
    """Parameters and phases, the arguments it was built with, and what its modules say."""
    return {
        "model": model.signature(),
        "spec": model.spec,
        "modules": re.sub(r" at 0x\w+", "", repr(model)).splitlines(),
    }


def describe_task(task: Task, model: LayeredGNN) -> Description:
    """Name, headline, the arguments of a task that is built in, the parameters of one that is not.

    With parameters go buffers; what is the model's is left out.
    """
    built_in = type(task) is NodeTask
    parameters = {} if built_in else shapes_of_task(task, model)
    return {
        "name": task.name,
        "headline": task.headline,
        "built_in": built_in,
        **(task.arguments() if isinstance(task, NodeTask) else {}),
        **({"parameters": parameters} if parameters else {}),
        **({} if is_additive(task) else {"additive": False}),
    }


def describe_data(data: Graph | ClusteredGraph, fingerprint: str) -> Description:
    """What a run is trained on, and where it is found again; `fingerprint` is the graph's."""
    graph = data.graph if isinstance(data, ClusteredGraph) else data
    path = data.path if isinstance(data, ClusteredGraph) else None
    return {
        "name": graph.name,
        "fingerprint": fingerprint,
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "clustered": isinstance(data, ClusteredGraph),
        "clusters": _clusters(data) if isinstance(data, ClusteredGraph) else None,
        "source": graph.source if path is None else str(path),
    }


def _clusters(data: ClusteredGraph) -> str:
    """What the batches of a clustered graph depend on beside the graph."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (data.offsets, data.train_ends):
        digest.update(array.contiguous().numpy().tobytes())
    return digest.hexdigest()
