"""`gnnscale append`: what is added by files is what gs.append adds; nothing by halves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import gnnscale as gs
from gnnscale.graph.store import growth


@pytest.fixture
def store(gnnscale):
    rng = np.random.default_rng(0)
    ids = np.array([f"p{i}" for i in range(50)])
    people = pd.DataFrame({"person": ids, "age": rng.normal(size=50), "team": ["a", "b"] * 25})
    ends = rng.integers(0, 50, (2, 200))
    edges = pd.DataFrame({"from": ids[ends[0]], "to": ids[ends[1]]})
    early = (ends < 40).all(axis=0)
    edges[early].to_csv("edges.csv", index=False)
    edges[~early].to_csv("new-edges.csv", index=False, sep="|")
    people[:40].to_csv("people.csv", index=False)
    people[40:].to_csv("new-people.csv", index=False)
    told = ("--labels", "team", "--split", "60/20/20", "--directed")
    gnnscale("import", "edges.csv", "people.csv", *told, "--out", "g")
    gnnscale("partition", "-d", "./g", "--num-parts", "4", "--out", "s")
    return edges, people


def test_files_are_added_as_gs_append_adds_them(gnnscale, store):
    new = ("new-edges.csv", "new-people.csv", "--sep", "|", "--joins", "test")
    told = gnnscale("append", "s", *new, "--out", "grown").stdout
    assert "10 new nodes in" in told and "of the edges join two clusters" in told
    assert "a new partition pays: gnnscale partition --dataset ./grown --num-parts 4" not in told
    grown = gs.open_graph("grown").original()
    wanted = gs.append("s", "new-edges.csv", "new-people.csv", sep="|", joins="test", path="w")
    assert grown.fingerprint() == wanted.original().fingerprint()
    assert grown.names[:].tolist() == store[1]["person"].tolist()
    assert gs.open_graph("s").num_nodes == 40
    gnnscale("append", "s", *new)
    assert "are in g already" in gnnscale("append", "s", *new, code=2).stderr
    alone = ("append", "s", "edges.csv")  # all of them are there
    assert "--parallel" in gnnscale(*alone, code=2).stderr
    before = gs.open_graph("s").graph.num_edges
    told = gnnscale(*alone, "--parallel").stdout
    assert "of them there already" in told
    assert gs.open_graph("s").graph.num_edges == before + len(pd.read_csv("edges.csv"))


def test_many_new_nodes_ask_for_a_new_partition(gnnscale, store):
    more = pd.DataFrame({"person": [f"q{i}" for i in range(30)], "age": 0.0, "team": None})
    more.to_csv("more.csv", index=False)
    pd.DataFrame({"from": more["person"], "to": "p1"}).to_csv("more-edges.csv", index=False)
    told = gnnscale("append", "s", "more-edges.csv", "more.csv").stdout
    assert "30 of 70 nodes came since" in told
    assert "gnnscale partition --dataset ./s --num-parts 4 --out FOLDER" in told
    quick = ("--epochs", "1", "--hidden-channels", "4", "--no-baselines", "--run-dir", "r")
    gnnscale("train", "-d", "./s", *quick)
    gnnscale("predict", "r", "--dataset", "./s", "--out", "p.csv")
    assert pd.read_csv("p.csv")["id"].tolist()[-1] == "q29"


def test_an_interrupt_leaves_the_old_store(gnnscale, store, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    before = {path.name: path.read_bytes() for path in Path("s").iterdir()}
    monkeypatch.setattr(growth, "_write_nodes", interrupted)
    new = ("new-edges.csv", "new-people.csv", "--sep", "|")
    done = gnnscale("append", "s", *new, code=130)
    assert done.stderr.strip() == "interrupted: s is as it was"
    assert {path.name: path.read_bytes() for path in Path("s").iterdir()} == before
    assert not [path for path in Path().iterdir() if path.name.startswith(".") and path.is_dir()
                and path.name != ".cache"]  # fmt: skip


def test_arrays_and_types_come_from_files(gnnscale):
    graph = gs.Graph.from_arrays(
        np.array([[0, 1], [1, 2]]), x=scipy.sparse.eye(3, format="csr"), edge_type=[0, 1]
    )
    gs.cluster(graph, gs.partition(graph, 2, "random"), path="s")
    np.save("e.npy", np.array([[3], [0]]))
    np.save("t.npy", np.array([1]))
    scipy.sparse.save_npz("x.npz", scipy.sparse.csr_array(np.array([[0.0, 2.0, 0.0]])))
    told = gnnscale("append", "s", "e.npy", "x.npz", code=2).stderr
    assert "give those of the new ones, --edge-type" in told
    gnnscale("append", "s", "e.npy", "x.npz", "--edge-type", "t.npy")
    grown = gs.open_graph("s").original()
    assert grown.x.select_rows(torch.tensor([3])).indices.tolist() == [1]
    assert sorted(grown.edge_type.tolist()) == [0, 1, 1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("g", "new-edges.csv"), "gnnscale partition --dataset ./g --num-parts N --out FOLDER"),
        (("no", "new-edges.csv"), "no gnnscale clustered graph at"),
        (("s", "no.csv"), "no.csv"),
        (("s", "new-edges.csv"), "give a table of them, NODES, with their features"),
        (("s", "new-edges.csv", "people.csv"), "are in g already"),
        (("s", "new-edges.csv", "new-people.csv", "--labels", "x"), "--labels x is no column"),
        (("s", "new-edges.csv", "new-people.csv", "--edge-type", "t.npy"), "--edge-type"),
        (("s", "new-edges.csv", "new-people.csv", "--memory", "much"), "--memory much"),
    ],
)
def test_what_cannot_be_is_said(gnnscale, store, given, said):
    np.save("t.npy", np.zeros(3, np.int64))
    done = gnnscale("append", *given, code=2)
    assert said in done.stderr and "Traceback" not in done.stderr


def test_what_is_asked_of_new_nodes_is_answered_by_their_name(gnnscale, store):
    store[1][40:].assign(town="fête").to_csv("odd.csv", index=False, encoding="latin-1")
    given = ("append", "s", "new-edges.csv", "odd.csv", "--sep", "|", "--drop", "town")
    told = gnnscale(*given, code=2).stderr
    assert "--encoding features=latin-1" in told and "--encoding features=cp1250" in told
    gnnscale(*given, "--encoding", "features=latin-1")
    assert gs.open_graph("s").num_nodes == 50
