"""Lists of SNAP and KONECT, written by hand as their pages say.

KONECT: the handbook of the collection (kunegis/konect-handbook), "Format of the TSV files": first
line ``% FORMAT WEIGHTS``, then perhaps ``% EDGES LEFT RIGHT``, columns for the two ids from 1, the
weight or multiplicity, and the time. SNAP: files of snap.stanford.edu, as web-Google.txt.
"""

from __future__ import annotations

import bz2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.data import load
from gnnscale.errors import InputError


def pairs(graph):
    weight = graph.edge_weight
    weight = np.ones(graph.num_edges) if weight is None else weight.numpy()
    return sorted(zip(*graph.edge_index.tolist(), weight.tolist(), strict=True))


@given(st.data())
def test_konect(tmp_path_factory, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    kind = data.draw(st.sampled_from(("sym", "asym", "bip")))
    weights = data.draw(st.sampled_from(("unweighted", "posweighted", "signed", "positive")))
    columns = data.draw(st.sampled_from((2, 3, 4)))
    sizes = data.draw(st.booleans())
    left, right = (int(n) for n in rng.integers(1, 9, 2))
    right = right if kind == "bip" else left
    edges = np.stack([rng.integers(1, left + 1, 12), rng.integers(1, right + 1, 12)])
    edges[:, 0] = left, right
    weight = rng.choice([-1.5, 1, 2], 12)
    times = rng.permutation(12) * data.draw(st.sampled_from([0, 1])) + 1_082_040_961
    times = times * data.draw(st.sampled_from([0, 1, rng.permutation(12) % 2, np.arange(12) == 11]))
    rows = [
        [f"{a}", f"{b}", f"{w:g}", f"{t}"][:columns]
        for a, b, w, t in zip(*edges, weight, times, strict=True)
    ]
    blank = data.draw(st.sampled_from("\t "))
    text = f"% {kind} {weights}\n" + (f"% 12 {left} {right}\n" if sizes else "")
    text += "".join(blank.join(row) + "\n" for row in rows)
    file = tmp_path_factory.mktemp("konect") / "out.mine"
    packed = data.draw(st.booleans())
    file.write_bytes(bz2.compress(text.encode()) if packed else text.encode())
    graph = load(file)
    known = weight if columns > 2 and weights != "unweighted" else np.ones(12)
    offset = left if kind == "bip" else 0
    expected = list(zip(edges[0] - 1, edges[1] - 1 + offset, known, strict=True))
    when = list(zip(edges[0] - 1, edges[1] - 1 + offset, times, strict=True))
    if kind != "asym":
        expected += [(b, a, w) for a, b, w in expected if a != b]
        when += [(b, a, t) for a, b, t in when if a != b]
    assert pairs(graph) == sorted(expected)
    if columns == 4 and times.any():
        read = zip(*graph.edge_index.tolist(), graph.edge_time.tolist(), strict=True)
        assert sorted((a, b, 0 if np.isnan(t) else t) for a, b, t in read) == sorted(when)
    else:
        assert graph.edge_time is None
    assert graph.num_nodes == left + (right if kind == "bip" else 0)
    if kind == "bip":
        assert graph.node_type.tolist() == [0] * left + [1] * right
    else:
        assert graph.names[:].tolist() == list(range(1, left + 1))


def test_konect_by_its_header(tmp_path, caplog):
    file = tmp_path / "out.konect-zachary"
    file.write_text("% sym unweighted\n% 78 34 34\n1\t2\n1\t3\n2\t3\n1\t4\n")
    graph = load(file)
    assert (graph.name, graph.num_nodes, graph.num_edges) == ("konect-zachary", 34, 8)
    assert "has 4 edges, and its header says 78" in caplog.text
    file.write_text("% asym unweighted\n% 2 3 3\n1 2\n4 1\n")
    with pytest.raises(InputError, match="ids are from 1 to 4; its header says 1 to 3"):
        load(file)
    file.write_text("% asym dynamic\n1 2 1 5\n1 2 -1 6\n")
    with pytest.raises(InputError, match=r"appear \(1\) and vanish"):
        load(file)


SNAP = """\
# {}: web-Mine.txt
# A graph of pages
# Nodes: {} Edges: 3
# FromNodeId\tToNodeId
0\t11342
11342\t0
5\t0
"""


@pytest.mark.parametrize("undirected", [False, True])
def test_snap(tmp_path, caplog, undirected):
    file = tmp_path / "web-Mine.txt"
    said = (
        "Undirected graph" if undirected else "Directed graph (each unordered pair is saved once)"
    )
    file.write_text(SNAP.format(said, 3))
    graph = load(file)
    assert graph.names[:].tolist() == [0, 5, 11342]
    assert graph.num_edges == (6 if undirected else 3)
    assert load(file, undirected=not undirected).num_edges == (3 if undirected else 6)
    assert not caplog.text
    file.write_text(SNAP.format(said, 4))
    load(file)
    assert "3 nodes with edges, and its header says 4" in caplog.text


def test_columns_of_snap_are_called_as_its_header_says(tmp_path):
    """As soc-sign-epinions.txt has them."""
    file = tmp_path / "soc-sign.txt"
    head = "# Directed graph: mine\n# Nodes: 3 Edges: 2\n# FromNodeId\tToNodeId\tSign\n"
    file.write_text(head + "0\t1\t-1\n1\t7\t1\n")
    assert pairs(load(file)) == [(0, 1, -1.0), (1, 2, 1.0)]
    assert load(file, weight=None, drop="Sign").edge_weight is None


@pytest.mark.parametrize("named", ["", "\tSign"])
def test_what_is_said_of_tables_is_said_of_snap_too(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    head = f"# Directed graph: mine\n# FromNodeId\tToNodeId{named}\n"
    rows = "".join(
        f"{i}\t{(i + 1) % 5}{chr(9) * bool(named)}{'1' * bool(named)}\n" for i in range(5)
    )
    (tmp_path / "w.txt").write_text(head + rows)
    people = "".join(f"{i}|{'ab'[i % 2]}|{10 * i}|x\n" for i in range(5))
    (tmp_path / "nodes.csv").write_text("# nodes of 2020\n" + people)
    said = "features=nodes.csv&split=60/20/20&sep=features=%7C&header=features=id,team,age,city"
    said += "&comment=features=%23&labels=team&drop=city" + ",Sign" * bool(named)
    graph = load(f"./w.txt?{said}&recipe=age=as is")
    assert graph.class_names == ("a", "b") and graph.feature_names == ("age",)
    assert graph.x.flatten().tolist() == [0, 10, 20, 30, 40]
    assert int(graph.train_mask.sum()) == 3 and graph.num_edges == 5 and graph.edge_weight is None
    with pytest.raises(InputError, match="a table of edges takes no sepp"):
        load("./w.txt?sepp=1")


def test_times_of_konect_that_begin_late(tmp_path):
    file = tmp_path / "out.late"
    rows = [f"{i} {i + 1} 1 {(i > 80) * 1_082_040_961}\n" for i in range(1, 100)]
    file.write_text("% asym unweighted\n% 99 100 100\n" + "".join(rows))
    times = load(file).edge_time.numpy()
    assert np.isnan(times[:80]).all() and (times[80:] == 1_082_040_961).all()
