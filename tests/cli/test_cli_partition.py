"""`gnnscale partition` of a stored graph: as from memory, and never in memory whole."""

from pathlib import Path

import pytest
import torch

import gnnscale as gs
from gnnscale.storage.mapped import is_mapped
from tests.cli.conftest import GRAPH
from tests.helpers.graphs import assert_same_graph, tensors


@pytest.mark.parametrize("kind", ["clustered", "built"])
def test_a_stored_graph_stays_in_its_files(gnnscale, monkeypatch, tmp_path, kind):
    graph = gs.load(GRAPH)
    if kind == "clustered":
        gs.cluster(graph, gs.partition(graph, 5, "random"), "given")
    else:
        masks = {part: graph.split()[part] for part in ("train", "val", "test")}
        also = {"splits": {"default": masks}, "metric": graph.metric, "undirected": False}
        gs.build_graph("given", 300, graph.edge_index.numpy(), x=graph.x, y=graph.y, **also)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    seen = []
    for room, name in (("partitioning", "partition"), ("graph", "cluster")):
        function = getattr(gs, name)

        def watched(given, *args, function=function, **kwargs):
            seen.append(given)
            return function(given, *args, **kwargs)

        monkeypatch.setattr(f"gnnscale.{room}.{name}", watched)
    options = ("--num-parts", "7", "--method", "streaming", "--view", "train")
    gnnscale(
        *("partition", "-d", "./given", *options, "--out", "made/store", "--save", "made/parts.npz")
    )
    assert len(seen) == 2
    for one in seen:
        assert all(is_mapped(tensor) for tensor in tensors(one).values())
    wanted = gs.partition(graph, 7, "streaming", view="train").assignment
    assert torch.equal(gs.Partition.load("made/parts.npz").assignment, wanted)
    stored = gs.open_graph("made/store")
    assert torch.equal(stored.partition.assignment, wanted)
    original = stored.original()
    original.name, original.source = graph.name, graph.source
    assert_same_graph(original, graph)
    seen.clear()
    assert not list(Path("scratch").iterdir())
