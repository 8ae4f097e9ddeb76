"""Graphs from arrays, PyG and networkx, and back."""

import networkx
import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data, HeteroData

from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.reading.nodes import PARTS
from gnnscale.kernels import CSR
from tests.helpers.graphs import assert_same_graph
from tests.helpers.strategies import dense_adjacency, graphs

EDGES = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 2]])


@given(graphs(edge_attr=None, unlabelled=True), st.data())
def test_from_arrays_does_not_depend_on_the_order_of_edges(graph, data):
    """Each edge keeps its weight and attributes; NumPy and torch input are the same."""
    order = torch.tensor(data.draw(st.permutations(range(graph.num_edges))), dtype=torch.int64)
    # Equal edges keep their given order, so they are told apart by nothing but that.
    source, target = graph.edge_index[:, order]
    key = (target * graph.num_nodes + source).argsort(stable=True)
    split = graph.split()
    again = Graph.from_arrays(
        graph.edge_index[:, order].numpy(),
        graph.x.numpy(),
        graph.y.numpy(),
        edge_weight=None if graph.edge_weight is None else graph.edge_weight[order].numpy(),
        edge_attr=None if graph.edge_attr is None else graph.edge_attr[order].numpy(),
        edge_type=None if graph.edge_type is None else graph.edge_type[order].int().numpy(),
        node_type=graph.node_type,
        splits={"default": {f"{p}_idx": split[p].nonzero().squeeze(1) for p in PARTS}},
        num_classes=3,
    )
    assert torch.equal(again.edge_index, graph.edge_index)
    if graph.edge_attr is not None:
        assert torch.equal(again.edge_attr, graph.edge_attr[order][key])
        assert torch.equal(again.edge_type, graph.edge_type[order][key])
    if graph.edge_weight is not None:
        assert torch.equal(again.edge_weight, graph.edge_weight[order][key])
    assert torch.equal(again.train_mask, graph.train_mask)
    assert torch.equal(again.x, graph.x)


@given(graphs(edge_attr=None, unlabelled=True, sparse_x=None))
def test_pyg_round_trip(graph):
    back = Graph.from_data(graph.to_data(), num_classes=3)
    assert_same_graph(back, graph)
    assert back.fingerprint() == graph.fingerprint()


@given(graphs(weighted=False), st.booleans())
def test_undirected_doubles_all_but_self_loops(graph, weighted):
    edges = graph.edge_index
    weight = torch.arange(1.0, edges.size(1) + 1) if weighted else None
    given = Graph.from_arrays(edges, num_nodes=graph.num_nodes, edge_weight=weight)
    both = Graph.from_arrays(edges, num_nodes=graph.num_nodes, edge_weight=weight, undirected=True)
    dense = dense_adjacency(given)
    expected = dense + dense.T - torch.diag(dense.diagonal())
    assert torch.equal(dense_adjacency(both), expected)


@given(st.booleans(), st.booleans(), st.integers(0, 8), st.integers(0, 2**20))
def test_networkx(directed, multi, nodes, seed):
    kinds = {
        (False, False): networkx.Graph,
        (True, False): networkx.DiGraph,
        (False, True): networkx.MultiGraph,
        (True, True): networkx.MultiDiGraph,
    }
    random = np.random.default_rng(seed)
    source = kinds[directed, multi](name="nx")
    for i in range(nodes):
        source.add_node(f"n{i}", x=random.normal(size=3), y=int(random.integers(4)))
    for _ in range(3 * nodes):
        u, v = random.integers(nodes, size=2)
        source.add_edge(f"n{u}", f"n{v}", weight=float(random.integers(1, 9)))
    graph = Graph.from_networkx(source)
    assert graph.name == "nx" and graph.num_nodes == nodes
    if not nodes:
        assert graph.x is None and graph.y is None
        return
    expected = networkx.to_numpy_array(source)  # row = source
    assert np.array_equal(dense_adjacency(graph).numpy(), expected.T)
    assert graph.y.tolist() == [y for _, y in source.nodes(data="y")]
    assert torch.equal(graph.x[0], torch.tensor(source.nodes["n0"]["x"]).float())


def test_networkx_wants_all_or_none():
    source = networkx.path_graph(3)
    source.nodes[0]["y"] = 1
    with pytest.raises(InputError, match="'y' is on 1 of 3 nodes"):
        Graph.from_networkx(source)
    source = networkx.path_graph(3)
    source.edges[0, 1]["weight"] = 2
    with pytest.raises(InputError, match="'weight' is on 1 of 2 edges"):
        Graph.from_networkx(source)
    assert Graph.from_networkx(source, weight=None).edge_weight is None


@pytest.mark.parametrize("values", [["a", "b"], [[1, 2], [3]]])
def test_networkx_attributes_are_numbers(values):
    source = networkx.path_graph(2)
    for node, value in enumerate(values):
        source.nodes[node]["x"] = value
    with pytest.raises(InputError, match="'x' is no array"):
        Graph.from_networkx(source)


def test_hetero_data_is_refused():
    data = HeteroData()
    data["paper"].x = torch.zeros(2, 1)
    data["author"].x = torch.zeros(2, 1)
    with pytest.raises(InputError, match=r"paper.*author.*to_homogeneous"):
        Graph.from_data(data)
    with pytest.raises(InputError, match="expected a torch_geometric Data, got dict"):
        Graph.from_data({})


def test_mask_columns_become_split_sets():
    train = torch.tensor([[1, 0], [0, 1], [0, 0]]).bool()
    test = torch.tensor([0, 0, 1]).bool()
    graph = Graph.from_data(Data(x=torch.zeros(3, 1), train_mask=train, test_mask=test))
    assert list(graph.splits) == ["0", "1"]
    assert torch.equal(graph.split("1").train, train[:, 1])
    assert torch.equal(graph.split("1").test, test)
    assert torch.equal(graph.train_mask, train[:, 0])  # "default" is the first
    assert not graph.val_mask.any()
    with pytest.raises(InputError, match=r"no split set '2'; there are \['0', '1'\]"):
        graph.split("2")
    arrays = Data(x=torch.zeros(3, 1), train_mask=train.numpy(), test_mask=test.numpy())
    assert_same_graph(Graph.from_data(arrays), graph)
    single = Graph.from_data(Data(x=torch.zeros(3, 1), train_mask=train[:, :1], test_mask=test))
    assert list(single.splits) == ["default"]
    with pytest.raises(InputError, match=r"\[2, 3\] columns; they must agree"):
        Graph.from_data(
            Data(x=torch.zeros(3, 1), train_mask=train, val_mask=torch.zeros(3, 3).bool())
        )


def test_pyg_batches_are_several_graphs():
    one = Data(x=torch.ones(2, 1), edge_index=torch.tensor([[0], [1]]), y=torch.tensor([3]))
    other = Data(x=torch.ones(3, 1), edge_index=torch.tensor([[0], [2]]), y=torch.tensor([1]))
    graph = Graph.from_data(Batch.from_data_list([one, other]))
    assert graph.node_ptr.tolist() == [0, 2, 5]
    assert graph.edge_index.tolist() == [[0, 2], [1, 4]]
    assert graph.y_level == "graph" and graph.y.tolist() == [3, 1]
    assert graph.num_graphs == 2 and "in 2 graphs" in repr(graph)
    data = graph.to_data()
    assert data.batch.tolist() == [0, 0, 1, 1, 1]
    assert_same_graph(Graph.from_data(data), graph)
    alone = Graph.from_data(Batch.from_data_list([other]))
    assert alone.node_ptr is None and alone.y_level == "graph"


def test_graphs_of_a_batch_may_not_be_connected():
    with pytest.raises(InputError, match="1 edges connect different graphs"):
        Graph.from_arrays([[0, 1], [1, 2]], num_nodes=3, node_ptr=[0, 2, 3])


def test_adj_t_is_read_as_its_transpose():
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])
    dense = torch.sparse_coo_tensor(EDGES.flip(0), weight, (4, 4), check_invariants=True)
    dense = dense.coalesce()
    for adj_t in (dense, dense.to_sparse_csr(), dense.to_sparse_csc()):
        graph = Graph.from_data(Data(adj_t=adj_t, num_nodes=4))
        assert torch.equal(dense_adjacency(graph), dense.to_dense().double())


def test_edge_attributes_of_one_number():
    data = Data(edge_index=EDGES, edge_attr=torch.arange(4.0), num_nodes=3)
    graph = Graph.from_data(data)
    assert graph.edge_attr.tolist() == [[2.0], [0.0], [1.0], [3.0]]  # by target, then source
    assert graph.edge_index.tolist() == [[2, 0, 1, 2], [0, 1, 2, 2]]


def test_edge_labels_follow_the_stored_order():
    graph = Graph.from_arrays(EDGES, y=[0, 1, 2, 3], y_level="edge", num_nodes=3)
    assert graph.y.tolist() == [2, 0, 1, 3] and graph.num_classes == 4
    assert graph.num_nodes == 3


def test_sparse_features_stay_sparse():
    dense = np.array([[0, 1.5, 0], [2, 0, 0]])
    coo = torch.tensor(dense).to_sparse()
    kinds = (scipy.sparse.csr_matrix(dense), scipy.sparse.coo_array(dense), coo, coo.int())
    for x in (*kinds, coo.to_sparse_csr(), CSR.from_dense(torch.tensor(dense))):
        graph = Graph.from_arrays([[0], [1]], x)
        assert isinstance(graph.x, CSR) and graph.num_features == 3
        assert graph.x.values.is_floating_point()
        expected = torch.tensor(dense) if x is not kinds[3] else torch.tensor(dense).int()
        assert torch.equal(graph.x.to_dense(torch.float64), expected.double())


@pytest.mark.parametrize(
    ("y", "task", "classes"),
    [
        ([0, 2, -1], "classification", 3),
        (torch.tensor([[0], [2], [1]]), "classification", 3),
        (np.array([0, 2, 1], dtype=np.uint8), "classification", 3),
        ([True, False, True], "classification", 2),
        ([[0, 1], [1, 1], [0, 0]], "multilabel", 2),
        ([[0.0, 1.0], [float("nan"), 1.0], [0.0, 0.0]], "multilabel", 2),
        ([0.5, 1.5, float("nan")], "regression", 1),
        (torch.tensor([[0.5], [1.5], [2.5]]), "regression", 1),
        ([[3.0, 1.0], [0.5, 1.0], [0.0, 0.0]], "regression", 2),
    ],
)
def test_the_task_is_read_off_the_labels(y, task, classes):
    graph = Graph.from_arrays([[0], [1]], y=y)
    assert (graph.task, graph.num_classes, graph.num_nodes) == (task, classes, 3)


def test_what_is_not_said_is_found():
    assert Graph.from_arrays([[], []]).num_nodes == 0
    assert Graph.from_arrays([[0, 4], [1, 1]]).num_nodes == 5
    assert Graph.from_arrays([[0], [1]], train_mask=[True, False, False, False]).num_nodes == 4
    assert Graph.from_arrays([[0], [1]], y=[0, 1, 1]).num_nodes == 3
    assert Graph.from_arrays(np.zeros((2, 0), np.uint32), num_nodes=np.int64(2)).num_nodes == 2
    assert Graph.from_arrays(np.array([[0], [1]], np.uint16)).num_nodes == 2


def test_tensors_become_plain():
    edges = EdgeIndex([[0, 1], [1, 0]], sparse_size=(3, 3))
    graph = Graph.from_arrays(
        edges, torch.nn.Parameter(torch.ones(3, 1)), edge_weight=torch.tensor([1, 2]).half()
    )
    assert type(graph.edge_index) is torch.Tensor and not graph.x.requires_grad
    assert type(graph.x) is torch.Tensor
    assert graph.edge_weight.dtype == torch.float32


def test_memory_maps(tmp_path):
    """A writable map is not copied; a read-only one may not be written through, so it is."""
    np.save(tmp_path / "x.npy", np.ones((3, 2), np.float32))
    for mode, shared in (("c", True), ("r", False)):
        x = np.load(tmp_path / "x.npy", mmap_mode=mode)
        graph = Graph.from_arrays([[0], [1]], x)
        assert (graph.x.data_ptr() == x.ctypes.data) is shared
        graph.x += 1
        assert graph.x.sum() == 12
    assert np.load(tmp_path / "x.npy").sum() == 6


def test_empty_graphs():
    for nodes in (0, 1):
        graph = Graph.from_arrays(torch.empty(2, 0, dtype=torch.long), torch.zeros(nodes, 3))
        assert (graph.num_nodes, graph.num_edges) == (nodes, 0)
        assert graph.adj.symmetric
        assert_same_graph(Graph.from_data(graph.to_data()), graph)
        assert repr(graph)
