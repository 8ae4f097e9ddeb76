from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from gnnscale.data import find_card, load

WORDNET = Path(__file__).resolve().parents[2] / "datasets" / "wordnet"
FILES = Path("/usr/share/wordnet")


@pytest.fixture(scope="module")
def graph():
    return load("wordnet")


def test_documented_counts(graph):
    assert (graph.num_nodes, graph.num_edges, graph.num_classes) == (117_659, 2 * 183_789, 45)
    assert (graph.name, graph.task, graph.metric) == ("wordnet", "classification", "accuracy")
    assert graph.source == "wordnet"
    assert graph.adj.symmetric
    source, target = graph.edge_index
    assert not bool((source == target).any())
    pairs = source * graph.num_nodes + target
    assert pairs.unique().numel() == pairs.numel()
    assert int(graph.adj.indptr.diff().max()) == 674
    assert float((graph.y[source] == graph.y[target]).float().mean()) == pytest.approx(
        0.709, abs=5e-4
    )


def test_split_is_a_partition_of_the_nodes(graph):
    split = graph.split()
    sizes = [int(split[part].sum()) for part in ("train", "val", "test")]
    assert sizes == [58_829, 29_414, 29_416]
    assert bool((split.train.int() + split.val.int() + split.test.int() == 1).all())
    assert graph.y[split.train].unique().numel() == 45


def test_features_are_tf_idf(graph):
    x = graph.x
    assert x.shape == (117_659, find_card("wordnet").num_features)
    norm = torch.zeros(x.shape[0]).index_add_(0, x.row_index, x.values.square())
    assert torch.allclose(norm[x.indptr.diff() > 0], torch.ones(1), atol=1e-5)


def test_card_states_licence_and_file_is_small():
    card = find_card("wordnet")
    assert "Princeton University" in (WORDNET / "LICENSE").read_text()
    assert card.data_path.stat().st_size < 3_000_000
    stored = np.load(card.data_path, allow_pickle=False)["edge_index"].shape[1]
    assert (card.num_edges, card.results[0].metric) == (stored, "accuracy")


@pytest.mark.skipif(not FILES.is_dir(), reason="needs Debian's package wordnet-base")
def test_build_script_makes_the_shipped_arrays():
    spec = importlib.util.spec_from_file_location("wordnet_build", WORDNET / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    made = build.build(FILES)
    with np.load(WORDNET / "wordnet.npz", allow_pickle=False) as shipped:
        assert sorted(shipped.files) == sorted(made)
        for key in shipped.files:
            assert shipped[key].dtype == made[key].dtype
            assert np.array_equal(shipped[key], made[key]), key
