"""Bad input: each fault with its own message, all of them at once."""

import numpy as np
import pytest
import torch

from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, Graph
from gnnscale.graph.checks import csr_faults, label_faults, training_faults
from gnnscale.kernels import CSR

EDGES = torch.tensor([[0, 1, 2], [1, 2, 0]])
NAN, INF = float("nan"), float("inf")


def good(**changes):
    arguments = {
        "edge_index": EDGES,
        "x": torch.ones(3, 2),
        "y": torch.tensor([0, 1, 1]),
        "train_mask": torch.tensor([True, False, False]),
        "edge_weight": torch.ones(3),
        "edge_attr": torch.ones(3, 2),
        "edge_type": torch.zeros(3).long(),
    }
    return Graph.from_arrays(**(arguments | changes))


def sparse(dense):
    return CSR.from_dense(torch.tensor(dense))


FAULTS = [
    ({"edge_index": [[0, 1, 7], [1, 2, 0]]}, r"1 ids out of range \(greatest 7\).*num_nodes=8"),
    ({"edge_index": [[0, 1, -2], [1, 2, 0]]}, r"1 negative ids \(least -2\)"),
    ({"edge_index": [[0.0, 1, 2], [1, 2, 0]]}, "dtype torch.float64; it must hold integers"),
    ({"edge_index": EDGES[:, :2]}, r"edge_weight has shape \(3,\); it must be \[2\]"),
    ({"edge_index": torch.zeros(3, 3).long()}, r"shape \(3, 3\); it must be \[2, num_edges\]"),
    ({"edge_index": None}, "edge_index is None"),
    ({"num_nodes": -1}, "num_nodes=-1 must be a whole number from 0"),
    ({"num_nodes": 2.5, "num_classes": "3"}, r"(?s)2 faults.*num_nodes=2\.5 .*num_classes='3' "),
    ({"splits": {"default": 3}}, "splits must be of the form"),
    ({"undirected": "no"}, "undirected='no' must be True or False"),
    ({"task": 3, "name": None}, "(?s)2 faults.*name=None must be text.*task=3 must be text"),
    ({"y": torch.ones(3, device="meta")}, "y is a tensor on the meta device, without data"),
    ({"x": torch.ones(3, 2, dtype=torch.complex64)}, "x is a tensor of torch.complex64; give real"),
    ({"x": torch.tensor(1.0)}, r"x has shape \(\); it must be"),
    ({"x": torch.tensor([[1.0], [NAN], [2.0]])}, "NaN or infinite values in 1 of 3 rows"),
    ({"x": torch.tensor([[INF], [-INF], [2.0]])}, "NaN or infinite values in 2 of 3 rows"),
    ({"x": sparse([[1.0], [NAN], [2.0]])}, "x holds NaN or infinite values"),
    ({"x": CSR(torch.tensor([0, 1]), torch.tensor([4]), None, (1, 3))}, r"\[4, 4\]; allowed"),
    ({"x": torch.ones(3, 2).int()}, r"dtype torch.int32; features are floating point"),
    ({"x": CSR.from_dense(torch.ones(3, 2).int())}, "dtype torch.int32; features"),
    ({"x": torch.ones(3)}, r"x has shape \(3,\); it must be \[num_nodes, num_features\]"),
    ({"x": torch.ones(2, 2), "num_nodes": 3}, "x has 2 rows for 3 nodes"),
    ({"x": sparse([[1.0], [1.0]]), "num_nodes": 3}, "x has 2 rows for 3 nodes"),
    ({"x": np.array([["a"], ["b"], ["c"]])}, "x is <U1; give numbers"),
    ({"x": [[1, 2], [3]]}, "cannot be made an array"),
    ({"y": [0, 1]}, "y has 2 rows for 3 nodes"),
    ({"y": torch.tensor(1)}, "y is a single number"),
    ({"y": [0, 1, 5], "num_classes": 3}, r"go up to 5, outside the classes 0..2"),
    ({"y": [0, 1, -5]}, "labels go down to -5; classes start at 0, -1 is unlabelled"),
    ({"y": [0.5, 1, 2], "task": "classification"}, "y holds 0.5 in row 0, which is no class"),
    ({"y": [[0, 3]] * 3, "task": "multilabel"}, "multilabel wants y of 0 and 1"),
    ({"y": [[0, 1]] * 3, "task": "multilabel", "num_classes": 5}, "y has 2 columns for 5 labels"),
    ({"y": [1.0, INF, 2.0]}, "y holds infinite values"),
    ({"task": "clustering"}, "unknown task 'clustering'; there are classification"),
    ({"y_level": "hyperedge"}, "unknown y_level 'hyperedge'"),
    ({"y": [0, 1], "y_level": "edge"}, "y has 2 rows for 3 edges"),
    ({"y_level": "edge", "undirected": True}, "edge-level labels want every directed edge"),
    ({"y_level": "graph"}, "y has 3 rows for 1 graphs"),
    ({"edge_weight": torch.ones(2)}, r"edge_weight has shape \(2,\); it must be \[3\]"),
    ({"edge_weight": torch.ones(3, 1)}, r"edge_weight has shape \(3, 1\); it must be \[3\]"),
    ({"edge_weight": torch.tensor(1.0)}, r"edge_weight has shape \(\)"),
    ({"edge_weight": torch.tensor([1, NAN, 1])}, "edge_weight holds NaN or infinite values"),
    ({"edge_type": torch.ones(2).long()}, r"edge_type has shape \(2,\); it must be \[3\]"),
    ({"edge_type": torch.ones(3)}, "edge_type has dtype torch.float32; it must hold integers"),
    ({"node_type": -torch.ones(4).long()}, "node_type"),
    ({"edge_attr": torch.ones(2, 2)}, "edge_attr has 2 rows for 3 edges"),
    ({"edge_attr": torch.ones(3, 2, 2)}, r"edge_attr has shape \(3, 2, 2\)"),
    ({"edge_attr": torch.tensor([1, NAN, 1])}, "edge_attr holds NaN or infinite values"),
    ({"train_mask": torch.ones(4).bool()}, r"mask train_mask has shape \(4,\); it must be \[3\]"),
    ({"val_mask": torch.ones(3, 2).bool()}, r"mask val_mask has shape \(3, 2\)"),
    ({"test_mask": [0.0, 0.5, 1.0]}, "mask test_mask holds 0.5; a mask holds booleans or 0 and 1"),
    (
        {"test_mask": [0, 9]},
        r"test_mask has shape \(2,\); it must be \[3\].*test_idx, or as splits",
    ),
    (
        {"splits": {"a": {"test": [0, 9]}}},
        r"split a/test holds ids in \[0, 9\]; allowed is \[0, 2\]",
    ),
    ({"splits": {"a": {"eval": [1]}}}, "there is split a/eval; the parts are called train, val"),
    ({"splits": {"default": {"val": [1]}}}, "as masks or in splits, not both"),
    ({"splits": {"a": {"val": [-1]}}}, r"split a/val holds ids in \[-1, -1\]"),
    ({"node_ptr": [0, 2]}, "node_ptr must run from 0 to the number of nodes, 3"),
    ({"node_ptr": [0, 4, 3]}, "node_ptr decreases"),
    ({"node_ptr": [[0, 3]]}, r"node_ptr has shape \(1, 2\)"),
    ({"node_ptr": [0, 1, 3]}, "2 edges connect different graphs of node_ptr"),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS, ids=lambda value: str(value)[:40])
def test_every_fault_has_its_message(changes, message):
    with pytest.raises(InputError, match=message):
        good(**changes)


def test_good_input_has_no_fault():
    good().check()


def test_all_faults_are_reported_at_once():
    with pytest.raises(InputError) as caught:
        good(
            edge_index=[[0, 1, 7], [1, -2, 0]],
            x=torch.full((3, 2), NAN),
            y=[0, 1, 9],
            num_classes=3,
            edge_weight=torch.ones(1),
            edge_attr=torch.ones(2, 1),
            train_mask=torch.ones(5).bool(),
            val_mask=[8],
            node_ptr=[0, 9],
            splits={"other": {"held": [1]}},
        )
    faults = caught.value.faults
    assert len(faults) == len(set(faults)) == 10, faults
    assert str(caught.value).startswith("10 faults:\n  - ")
    for word in ("negative", "range", "NaN", "labels", "edge_weight", "edge_attr", "train_mask"):
        assert any(word in fault for fault in faults), word
    for word in ("val_mask", "node_ptr", "other/held"):
        assert any(word in fault for fault in faults), word
    assert isinstance(caught.value, ValueError)


def test_check_finds_what_was_changed_by_hand():
    graph = good()
    graph.x[1, 1] = INF
    graph.y[0] = 7
    graph.splits["default"].val.resize_(1)
    with pytest.raises(InputError, match="3 faults"):
        graph.check()
    graph = good()
    graph.adj = Adjacency(torch.tensor([0, 9]), graph.adj.indices)
    with pytest.raises(InputError, match="indptr runs from 0 to 9"):
        graph.check()


def test_overlapping_splits_are_warned_of(caplog):
    good(val_mask=[1, 1, 0])
    assert "training nodes are also validation or test nodes" in caplog.text


@pytest.mark.parametrize(
    ("indptr", "indices", "values", "message"),
    [
        ([0, 1], [0], None, "indptr has 2 entries for 2 rows; it needs 3"),
        ([0, 1, 3], [0, 1], None, "indptr runs from 0 to 3"),
        ([1, 1, 2], [0, 1], None, "indptr runs from 1 to 2"),
        ([0, 3, 2], [0, 1], None, "indptr decreases"),
        ([0, 1, 2], [0, 2], None, r"column indices span \[0, 2\]; allowed is \[0, 1\]"),
        ([0, 1, 2], [0, -1], None, r"column indices span \[-1, 0\]"),
        ([0, 1, 2], [0, 1], [1.0], "1 values for 2 entries"),
    ],
)
def test_csr_faults(indptr, indices, values, message):
    values = None if values is None else torch.tensor(values)
    csr = CSR(torch.tensor(indptr), torch.tensor(indices), values, (2, 2))
    (fault,) = csr_faults(csr, "a")
    assert fault.startswith("a: ")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(fault)


def test_training_faults():
    y, mask = torch.tensor([0, -1, 1]), torch.tensor([True, False, True])
    assert training_faults(y, mask) == []
    assert "no labels" in training_faults(None, mask)[0]
    assert "no training nodes" in training_faults(y, None)[0]
    assert "training set is empty" in training_faults(y, ~(mask | True))[0]
    assert "1 of 3 training nodes have no label" in training_faults(y, mask | True)[0]
    assert "y has 2 rows for 3 nodes" in training_faults(y[:2], mask)[0]
    known = torch.tensor([[NAN, NAN], [1, NAN], [0, 1]])
    assert training_faults(known, torch.tensor([False, True, True])) == []
    assert "1 of 2" in training_faults(known, torch.tensor([True, True, False]))[0]


def test_no_labels_no_faults():
    assert label_faults(torch.empty(0, dtype=torch.int64), "classification", 0, 0, "node") == []
