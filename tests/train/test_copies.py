"""A copy of a trainer is a trainer of its own, whatever it was in the midst of."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import pytest
import torch

import gnnscale as gs
from gnnscale.train import FixedEpochs, Trainer

NODES, WIDTH = 60, 4


def _cluster(model: Any, graph: gs.Graph) -> Trainer:
    return gs.ClusterTrainer(model, graph, 6, 2, epochs=2, method="random", device="cpu")


def _pipeline(model: Any, graph: gs.Graph) -> Trainer:
    made = partial(gs.PipelineTrainer, num_parts=6, clusters_per_batch=1, method="random")
    return made(model, graph, micro_batches=2, epochs=2, device="cpu")


def _layerwise(model: Any, graph: gs.Graph) -> Trainer:
    return gs.LayerwiseTrainer(model, graph, FixedEpochs(2), 16, device="cpu")


def _graphs(model: Any, graph: gs.Graph) -> Trainer:
    data = [graph.to_data() for _ in range(4)]
    for number, one in enumerate(data):
        one.y = torch.tensor([number % 2])
        one.x = one.x + number
        del one.train_mask, one.val_mask, one.test_mask
    split = {"train": [0, 1, 2, 3]}
    return gs.GraphTrainer(model, data, graphs_per_batch=2, epochs=2, split=split, device="cpu")


@pytest.mark.parametrize("when", ["made", "prepared", "trained"])
@pytest.mark.parametrize("make", [_cluster, _pipeline, _layerwise, _graphs])
@pytest.mark.parametrize("kind", [gs.nn.GraphSAGE, gs.nn.GCN])
def test_a_copy_trains_as_the_trainer_would_and_leaves_it_as_it_was(kind, make, when):
    graph = gs.load(f"synthetic:planted?nodes={NODES}")

    def made() -> Trainer:
        torch.manual_seed(0)
        model = kind(graph.num_features, WIDTH, 2, graph.num_classes, dropout=0.3)
        trainer = make(model, graph)
        if when == "prepared":
            trainer.prepare()
        if when == "trained":
            trainer.fit()
        return trainer

    trainer, alone = made(), made()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    twin = copy.deepcopy(trainer)
    resume = make is not _layerwise and "auto"  # trained layers do not go on
    twin.fit(resume=resume)
    alone.fit(resume=resume)
    assert _equal(twin.model.state_dict(), alone.model.state_dict())
    assert torch.equal(twin.predict(), alone.predict())
    assert _equal(trainer.model.state_dict(), before)
    trainer.fit(resume=resume)
    assert _equal(trainer.model.state_dict(), alone.model.state_dict())


@pytest.mark.parametrize("make", [_cluster, _pipeline, _layerwise, _graphs])
def test_a_trainer_is_not_pickled_and_the_remedy_works(make, tmp_path):
    graph = gs.load(f"synthetic:planted?nodes={NODES}")
    model = gs.nn.GCN(graph.num_features, WIDTH, 2, graph.num_classes)
    trainer = make(model, graph)
    named = rf"{type(trainer).__name__} is not pickled.*learnt\.state_dict\(\).*gs\.load_run"
    with pytest.raises(gs.InputError, match=named):
        pickle.dumps(trainer)
    state = pickle.loads(pickle.dumps(trainer.learnt.state_dict()))
    other = make(gs.nn.GCN(graph.num_features, WIDTH, 2, graph.num_classes), graph)
    other.learnt.load_state_dict(state)
    assert torch.equal(other.predict(), trainer.predict())
    with pytest.raises(gs.InputError, match=r"open '.*run', with gs\.load_run"):
        pickle.dumps(gs.ClusterTrainer(model, graph, 6, run_dir=tmp_path / "run"))


def test_a_line_says_what_is_trained_of_a_run_that_was_loaded_as_well(tmp_path):
    graph = gs.load(f"synthetic:planted?nodes={NODES}")
    model = gs.nn.GCN(graph.num_features, WIDTH, 2, graph.num_classes)
    trainer = gs.ClusterTrainer(model, graph, 6, method="random", epochs=2, run_dir=tmp_path / "r")
    assert "0 epochs trained" in repr(trainer)
    trainer.fit()
    assert "2 epochs trained" in repr(trainer)
    assert "2 epochs trained" in repr(gs.load_run(tmp_path / "r").trainer)


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())
