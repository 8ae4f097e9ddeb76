"""PyG's files by path: the graph that PyG itself loads, and nothing that runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset, TemporalData

from gnnscale.data import load
from gnnscale.errors import GnnscaleError, InputError, StoreError
from gnnscale.graph import Graph


def one(seed=0, nodes=6, **more):
    rng = torch.Generator().manual_seed(seed)
    return Data(
        x=torch.rand(nodes, 3, generator=rng),
        edge_index=torch.randint(0, nodes, (2, 9), generator=rng),
        y=torch.arange(nodes) % 2,
        **more,
    )


class Mine(InMemoryDataset):
    def __init__(self, root, graphs):
        self.graphs = graphs
        super().__init__(root)
        self.load(self.processed_paths[0])

    @property
    def processed_file_names(self):
        return "data.pt"

    def process(self):
        self.save(self.graphs, self.processed_paths[0])


def same(graph, data):
    made = Graph.from_data(data)
    x = graph.x if graph.x is None or isinstance(graph.x, torch.Tensor) else graph.x.to_dense()
    assert graph.structure_fingerprint() == made.structure_fingerprint()
    assert torch.equal(x, made.x)
    assert torch.equal(graph.y, made.y) and graph.y_level == made.y_level
    for name, values in made.carried.items():
        assert torch.equal(graph.carried[name], values.float() if name == "edge_attr" else values)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "data",
    [
        one(),
        one(edge_weight=torch.rand(9), edge_attr=torch.rand(9, 2), note="text", about={"a": [1]}),
        one(edge_type=torch.arange(9) % 3, node_type=torch.arange(6) % 2),
        one(train_mask=torch.arange(6) < 3, test_mask=torch.arange(6) > 4),
        Data(
            x=np.eye(6, dtype=np.float32),
            edge_index=torch.ones(2, 1).long(),
            y=torch.zeros(6).long(),
        ),
        one(pos=torch.rand(6, 2)),
    ],
    ids=lambda data: "-".join(sorted(data.keys())),
)
def test_data_is_the_graph_that_from_data_makes(tmp_path, data, old):
    torch.save(data, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    graph = load(tmp_path / "a.pt")
    same(graph, _as_tensors(data))
    assert load(graph.source).fingerprint() == graph.fingerprint()
    torch.save(data.to_dict(), tmp_path / "b.pt")
    assert load(tmp_path / "b.pt").fingerprint() == graph.fingerprint()


def _as_tensors(data):
    if isinstance(data.x, np.ndarray):
        data.x = torch.from_numpy(data.x)
    return data


def test_several_graphs_and_the_folder_of_a_data_set(tmp_path):
    graphs = [one(i, 4 + i) for i in range(3)]
    for i, graph in enumerate(graphs):
        graph.y = torch.tensor([i % 2])
    torch.save(graphs, tmp_path / "list.pt")
    Mine(str(tmp_path / "root"), graphs)
    batch = Batch.from_data_list(graphs)
    for path in ("list.pt", "root", "root/processed/data.pt"):
        graph = load(tmp_path / path)
        assert graph.num_graphs == 3
        same(graph, batch)
    Mine(str(tmp_path / "alone" / "mine"), [one()])
    same(load(tmp_path / "alone"), one())


def test_parts_in_files_of_their_own(tmp_path):
    for i, part in enumerate(("train", "val", "test")):
        Mine(str(tmp_path / part), [one(2 * i), one(2 * i + 1)])
        (tmp_path / "ppi" / "processed").mkdir(parents=True, exist_ok=True)
        made = tmp_path / part / "processed" / "data.pt"
        made.rename(tmp_path / "ppi" / "processed" / f"{part}.pt")
    graph = load(tmp_path / "ppi")
    assert graph.num_graphs == 6
    assert [int(graph.split()[part].sum()) for part in ("train", "val", "test")] == [12, 12, 12]


class Hidden:
    def __reduce__(self):
        return (print, ("this was run",))


def hetero():
    data = HeteroData()
    data["a"].x = torch.eye(2)
    data["a", "to", "a"].edge_index = torch.tensor([[0], [1]])
    return data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (hetero(), "to_homogeneous"),
        ((hetero().to_dict(), None, HeteroData), "to_homogeneous"),
        (TemporalData(src=torch.ones(1), dst=torch.ones(1), t=torch.ones(1)), "list of events"),
        (torch.nn.Linear(2, 2), "it is a model, not a graph"),
        (torch.nn.Linear(2, 2).state_dict(), "a dictionary of weight, bias, and no graph"),
        (Batch.from_data_list([one(), one()]), "to_data_list"),
        (Data(x=np.array([{}, None], object)), "an array of Python objects"),
        (one(evil=Hidden()), "runs no code out of files"),
        (torch.ones(3, 3), r"a tensor \[3, 3\]"),
        ([], "no graph"),
    ],
)
def test_what_is_no_graph_is_refused_by_name(tmp_path, content, words, capsys):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=words) as caught:
        load(tmp_path / "a.pt")
    assert "weights_only" not in str(caught.value) and "damaged" not in str(caught.value)
    assert "this was run" not in capsys.readouterr().out


def test_a_cut_file_is_named(tmp_path):
    torch.save(one(), tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    for content in (whole[:300], whole[:-20], b"hello world", b""):
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(GnnscaleError, match=r"a\.pt") as caught:
            load(tmp_path / "a.pt")
        assert isinstance(caught.value, StoreError | InputError)
