"""A run on a graph in files that nothing could load again writes that graph once."""

import shutil

import pytest
import torch

import gnnscale as gs
from gnnscale.errors import RunMismatch
from gnnscale.graph import ClusteredGraph
from gnnscale.graph.clustered import write_store
from gnnscale.storage.mapped import is_mapped
from tests.helpers.small_runs import small_graph


@pytest.fixture
def mapped(tmp_path):
    graph = small_graph()
    ends = torch.tensor([0, graph.num_nodes])
    nodes = torch.arange(graph.num_nodes)
    write_store(ClusteredGraph(graph, nodes, ends, ends[:1]), tmp_path / "given")
    graph = gs.open_graph(tmp_path / "given").graph
    assert graph.source is None and is_mapped(graph.adj.indices)
    return graph


def trained(graph, run_dir, resume="auto", **options):
    torch.manual_seed(0)
    model = gs.nn.GraphSAGE(graph.num_features, 8, 2, graph.num_classes)
    fixed = {"num_parts": 5, "clusters_per_batch": 2, "epochs": 1, "method": "random"}
    trainer = gs.ClusterTrainer(
        model, graph, run_dir=run_dir, progress=False, **{**fixed, **options}
    )
    trainer.fit(resume=resume)
    return trainer


def stores(run_dir):
    return sorted(meta.parent.name for meta in run_dir.glob("*/meta.json"))


def test_the_run_is_opened_from_its_one_store(mapped, tmp_path):
    run_dir = tmp_path / "run"
    trainer = trained(mapped, run_dir)
    assert stores(run_dir) == ["store"]
    run = gs.load_run(run_dir)
    assert run.graph.fingerprint() == mapped.fingerprint()
    torch.testing.assert_close(run.trainer.predict(), trainer.predict())
    run.trainer.fit()  # complete already: nothing is stored a second time
    assert stores(run_dir) == ["store"]
    shutil.rmtree(run_dir / "store")
    with pytest.raises(RunMismatch, match="pass graph="):
        gs.load_run(run_dir)


def test_a_store_elsewhere_may_go_away(mapped, tmp_path):
    run_dir = tmp_path / "run"
    trained(mapped, run_dir, store=tmp_path / "elsewhere")
    assert stores(run_dir) == ["graph"]
    shutil.rmtree(tmp_path / "elsewhere")
    assert gs.load_run(run_dir).graph.fingerprint() == mapped.fingerprint()


def test_another_run_in_the_folder_is_not_opened_from_the_store_of_the_one_before(mapped, tmp_path):
    run_dir = tmp_path / "run"
    trained(mapped, run_dir)
    graph = small_graph(seed=1)
    trained(graph, run_dir, resume=False)
    assert stores(run_dir) == ["graph", "store"]
    assert gs.load_run(run_dir).graph.fingerprint() == graph.fingerprint()
