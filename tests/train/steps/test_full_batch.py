"""One part is full-batch training: the gradients and weights of a plain PyTorch loop."""

from __future__ import annotations

import copy

import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gnnscale.train import ClusterTrainer
from tests.helpers.small_runs import CLASSES, HIDDEN, IN, small_graph
from tests.helpers.strategies import graphs

MODELS = {"gcn": pyg.GCN, "sage": pyg.GraphSAGE, "gin": pyg.GIN, "gat": pyg.GAT}


def plain_step(model, graph) -> torch.Tensor:
    model.train()
    model.zero_grad()
    extra = {}
    if model.supports_edge_weight:
        extra["edge_weight"] = graph.edge_weight
    out = model(graph.x, graph.edge_index, **extra)
    loss = functional.cross_entropy(out[graph.train_mask], graph.y[graph.train_mask])
    loss.backward()
    return loss.detach()


def train(model, graph, **options):
    options = {"keep": "last", "progress": False, "evaluate_every": 10**6, **options}
    trainer = ClusterTrainer(model, graph, num_parts=1, **options)
    return trainer.fit()


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters()}


def close(mine, theirs, tolerance):
    scale = max(float(t.abs().max()) for t in theirs.values())
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=tolerance, atol=tolerance * scale)


@settings(max_examples=24)
@given(
    data=st.data(),
    kind=st.sampled_from(sorted(MODELS)),
    norm=st.sampled_from([None, "layer_norm", "graph_norm"]),
    jk=st.sampled_from([None, "cat"]),
    seed=st.integers(0, 2**20),
)
def test_gradients_are_those_of_the_full_graph(data, kind, norm, jk, seed):
    # Smooth throughout: a norm makes equal rows exactly 0, where rounding would choose ReLU's (or
    # max's) side.
    graph = data.draw(graphs(features=IN))
    torch.manual_seed(seed)
    model = MODELS[kind](IN, HIDDEN, 2, CLASSES, act="tanh", norm=norm, jk=jk).double()
    plain = copy.deepcopy(model)
    loss = plain_step(plain, graph)
    report = train(model, graph, epochs=1, optimizer="sgd", lr=1e-3)
    assert report.rows[0]["loss"] == pytest.approx(float(loss), rel=1e-9)
    close(gradients(model), gradients(plain), 1e-8)


@pytest.mark.parametrize(
    ("kind", "weighted"), [("gat", False), ("gcn", True), ("gin", False), ("sage", True)]
)
def test_gradients_in_single_precision(kind, weighted):
    graph = small_graph(weighted=weighted)
    model = MODELS[kind](IN, HIDDEN, 2, CLASSES)
    plain = copy.deepcopy(model)
    plain_step(plain, graph)
    train(model, graph, epochs=1, optimizer="sgd", lr=1e-3)
    close(gradients(model), gradients(plain), 1e-5)


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [*((kind, "sgd") for kind in sorted(MODELS)), ("gcn", "adam"), ("sage", "adamw")],
)
def test_several_epochs_give_the_weights_of_a_plain_loop(kind, optimizer):
    graph = small_graph(weighted=True)
    # A bias before a batch norm has no gradient but noise, of which Adam makes whole steps.
    norm = "batch_norm" if optimizer == "sgd" else None
    model = MODELS[kind](IN, HIDDEN, 2, CLASSES, norm=norm)
    plain = copy.deepcopy(model)
    parameters = plain.parameters()
    step = {
        "sgd": lambda: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3),
        "adam": lambda: torch.optim.Adam(parameters, lr=0.05, weight_decay=1e-3),
        "adamw": lambda: torch.optim.AdamW(parameters, lr=0.05, weight_decay=1e-3),
    }[optimizer]()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(step, 5)
    losses = []
    for _ in range(5):
        losses.append(float(plain_step(plain, graph)))
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        step.step()
        schedule.step()
    options = {"optimizer": optimizer, "scheduler": "cosine", "weight_decay": 1e-3}
    report = train(model, graph, epochs=5, lr=0.05, clip_norm=0.5, **options)
    assert [row["loss"] for row in report.rows] == pytest.approx(losses, rel=1e-4)
    close(model.state_dict(), plain.state_dict(), 1e-4)


@settings(max_examples=15)
@given(data=st.data(), parts=st.integers(1, 5))
def test_a_step_of_all_clusters_is_a_full_batch(data, parts):
    graph = data.draw(graphs(min_nodes=5, features=IN, duplicates=False))
    model = pyg.GCN(IN, HIDDEN, 2, CLASSES).double()
    plain = copy.deepcopy(model)
    plain_step(plain, graph)
    ClusterTrainer(
        model,
        graph,
        num_parts=parts,
        clusters_per_batch=parts,
        epochs=1,
        method="random",
        optimizer="sgd",
        keep="last",
        progress=False,
    ).fit()
    close(gradients(model), gradients(plain), 1e-8)
