"""A split with cuts: training sees nothing later than its own, validation nothing later than its.

The oracle is a graph made by hand of what was known, and trained on by itself.
"""

from __future__ import annotations

import dataclasses
import inspect
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.costs import sizes
from gnnscale.costs.predicted.job import Job
from gnnscale.errors import InputError, RunMismatch
from gnnscale.graph import Graph
from gnnscale.graph.store.graph_folder import store_graph
from gnnscale.train import clusters
from gnnscale.train.evaluators import full_graph, temporal
from tests.helpers.small_runs import CLASSES, IN, assert_same, same_course, small_graph, weights_of

TRAINERS = {
    "clusters": lambda model, graph, **more: gs.ClusterTrainer(
        model, graph, **{"num_parts": 3, "clusters_per_batch": 2, "epochs": 2, **more}
    ),
    "inductive": lambda model, graph, **more: TRAINERS["clusters"](
        model, graph, inductive=True, **more
    ),
    "layerwise": lambda model, graph, **more: gs.LayerwiseTrainer(
        model, graph, controller=gs.FixedEpochs(2), **more
    ),
    "fine-tuned": lambda model, graph, keep="best", **more: TRAINERS["layerwise"](
        model, graph, keep=keep, fine_tune={"num_parts": 3, "epochs": 2, "keep": keep}, **more
    ),
    "pipeline": lambda model, graph, **more: gs.PipelineTrainer(
        model, graph, num_parts=3, stages=[1], micro_batches=2, epochs=2, **more
    ),
}
MODELS = {
    "gcn": lambda: gs.nn.GCN(IN, 6, 2, CLASSES, dropout=0.3, norm="batch_norm"),
    "gat": lambda: gs.nn.GAT(IN, 6, 2, CLASSES, dropout=0.3, heads=2),
    "graph norm": lambda: gs.nn.GraphSAGE(IN, 6, 2, CLASSES, norm="graph_norm"),
}
CUTS = (4, 7)
BUDGET = SimpleNamespace(budget="of a store")


def timed(seed: int = 0, nodes: bool = True, edges: bool = True) -> dict[str, torch.Tensor]:
    """The arguments of a graph whose nodes, or edges, became known at 0 to 9."""
    random = torch.Generator().manual_seed(seed)
    graph = small_graph(60, seed, weighted=True)
    given = {"edge_index": graph.edge_index, "edge_weight": graph.edge_weight}
    given |= {"x": graph.x, "y": graph.y}
    when = torch.randint(0, 10, (60,), generator=random)
    when[:9] = torch.tensor([0, 0, 0, 5, 5, 5, 9, 9, 9])  # every class in every part
    if nodes:
        given["node_time"] = when
    if edges:
        given["edge_time"] = torch.randint(0, 10, (graph.num_edges,), generator=random)
    masks = (when <= CUTS[0], (when > CUTS[0]) & (when <= CUTS[1]), when > CUTS[1])
    given |= dict(zip(("train", "val", "test"), masks, strict=True))
    return given


def made(given, cuts=CUTS) -> Graph:
    given = dict(given)
    split = {part: given.pop(part) for part in ("train", "val", "test")}
    split = split if cuts is None else {**split, "cuts": cuts}
    return Graph.from_arrays(**given, splits={"default": split}, num_classes=CLASSES)


def by_hand(given, moment) -> Graph:
    """The graph of what was known by then, made of the tables alone."""
    edges, n = given["edge_index"], len(given["y"])
    nodes = given.get("node_time", torch.zeros(n)) <= moment
    kept = nodes[edges[0]] & nodes[edges[1]]
    kept &= given.get("edge_time", torch.zeros(edges.size(1))) <= moment
    number = nodes.long().cumsum(0) - 1
    made_of = {k: v[nodes] for k, v in given.items() if len(v) == n and k != "edge_index"}
    of_edges = {k: given[k][kept] for k in ("edge_weight", "edge_time") if k in given}
    return made({**made_of, **of_edges, "edge_index": number[edges[:, kept]]}, cuts=None)


def trained(graph, trainer="clusters", model="gcn", **more):
    torch.manual_seed(0)
    made_trainer = TRAINERS[trainer](MODELS[model](), graph, progress=False, **more)
    made_trainer.fit()
    return made_trainer


def changed_after(given, moment, data):
    """The same but for what is later than a moment, which is another in every way there is."""
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    given, n = {k: v.clone() for k, v in given.items()}, len(given["y"])
    late = given["node_time"] > moment if "node_time" in given else torch.zeros(n).bool()
    of = given["edge_index"]
    late_edges = late[of[0]] | late[of[1]]
    if "edge_time" in given:
        late_edges |= given["edge_time"] > moment
    given["x"][late] = torch.randn(int(late.sum()), IN, generator=random) * 9
    given["y"][late] = (given["y"][late] + 1) % CLASSES
    by_edge = [k for k in ("edge_weight", "edge_time") if k in given]
    if "edge_time" in given and data.draw(st.booleans(), label="rewired"):
        count = int((given["edge_time"] > moment).sum())
        free = given["edge_time"] > moment
        given["edge_index"][:, free] = torch.randint(0, n, (2, count), generator=random)
        late_edges |= free
    given["edge_weight"][late_edges] += 3
    if data.draw(st.booleans(), label="removed"):
        kept = ~late_edges | (torch.rand(len(late_edges), generator=random) < 0.5)
        given["edge_index"] = given["edge_index"][:, kept]
        given |= {k: given[k][kept] for k in by_edge}
    if data.draw(st.booleans(), label="added") and ("edge_time" in given or bool(late.any())):
        more = torch.randint(0, n, (2, 40), generator=random)
        if "edge_time" not in given:
            more[0] = late.nonzero()[0]
        given["edge_index"] = torch.cat([given["edge_index"], more], 1)
        own = {"edge_weight": torch.ones(40), "edge_time": torch.full((40,), int(moment) + 1)}
        given |= {k: torch.cat([given[k], own[k]]) for k in by_edge}
    return given


SOME = st.sampled_from([(True, True), (True, False), (False, True)])


@settings(max_examples=12)
@given(st.sampled_from([*TRAINERS]), st.sampled_from([*MODELS]), SOME, st.data())
def test_nothing_later_than_the_training_cut_changes_a_bit(trainer, model, times, data):
    given_ = timed(data.draw(st.integers(0, 3)), *times)
    other = changed_after(given_, CUTS[0], data)
    one, two = (trained(made(g), trainer, model, keep="last") for g in (given_, other))
    assert_same(weights_of(one), weights_of(two))
    assert one.evaluate("train") == two.evaluate("train")


@settings(max_examples=8)
@given(st.sampled_from([*TRAINERS]), st.sampled_from([*MODELS]), SOME, st.data())
def test_nothing_later_than_the_validation_cut_changes_a_validation(trainer, model, times, data):
    """With the weights that validation chooses."""
    given_ = timed(data.draw(st.integers(0, 3)), *times)
    other = changed_after(given_, CUTS[1], data)
    one, two = (trained(made(g), trainer, model, keep="best") for g in (given_, other))
    assert_same(weights_of(one), weights_of(two))
    for a, b in zip(one.report.rows, two.report.rows, strict=True):
        assert {k: v for k, v in a.items() if k.startswith("val")} == {
            k: v for k, v in b.items() if k.startswith("val")
        }
    assert one.evaluate(["train", "val"]) == two.evaluate(["train", "val"])


@settings(max_examples=8)
@given(st.sampled_from([*TRAINERS]), st.sampled_from([*MODELS]), SOME, st.integers(0, 3))
def test_it_is_training_on_a_graph_of_the_known_tables(trainer, model, times, seed):
    given_ = timed(seed, *times)
    whole = trained(made(given_), trainer, model, keep="last")
    alone = trained(by_hand(given_, CUTS[0]), trainer, model, keep="last")
    assert_same(weights_of(whole), weights_of(alone))
    assert whole.graph.num_nodes == 60
    for part, moment in (("train", CUTS[0]), ("val", CUTS[1]), ("test", 9)):
        then = by_hand(given_, moment)
        torch.manual_seed(0)
        again = TRAINERS["clusters"](MODELS[model](), then, progress=False)
        again.model.load_state_dict(whole.model.state_dict())
        assert whole.evaluate(part) == pytest.approx(again.evaluate(part)), part
        if part == "test":
            assert torch.allclose(whole.predict(), again.predict(), atol=1e-5)
            assert torch.equal(whole.predict([5, 3]), whole.predict()[[5, 3]])


@pytest.mark.parametrize("trainer", ["clusters", "layerwise", "fine-tuned"])
@pytest.mark.parametrize("files", [False, True])
def test_a_run_is_resumed_and_loaded(tmp_path, trainer, files):
    given_ = timed()
    graph = made(given_)
    if files:
        graph = store_graph(graph, tmp_path / "graph")
        graph.source = None
    plain = trained(made(given_), trainer, evaluate_every=1)
    run = trained(graph, trainer, run_dir=tmp_path / "run", evaluate_every=1)
    same_course(run.report, plain.report)
    loaded = gs.load_run(tmp_path / "run")
    assert loaded.trainer.graph.num_nodes == 60
    assert loaded.trainer.graph.cuts == graph.cuts
    assert torch.equal(loaded.trainer.predict(), run.predict())
    assert loaded.trainer.evaluate(["train", "val", "test"]) == run.evaluate(
        ["train", "val", "test"]
    )
    if trainer == "clusters":
        loaded.trainer.fit(epochs=4)
        longer = trained(made(given_), trainer, epochs=4, evaluate_every=1)
        assert_same(weights_of(loaded.trainer), weights_of(longer))
        with pytest.raises(RunMismatch, match="graph"):
            trained(made(given_, (4, 8)), trainer, run_dir=tmp_path / "run", evaluate_every=1)
    if files:
        run = loaded = None
        assert not [*tmp_path.glob("gnnscale-known-*")]


def test_what_cannot_be_is_refused_with_what_works():
    graph = made(timed())
    clustered = gs.cluster(graph, gs.partition(graph, 3))
    for trainer in ("clusters", "layerwise"):
        with pytest.raises(InputError, match=r"clustered\.original\(\)"):
            trained(clustered, trainer)
    trained(clustered.original())
    bare = dataclasses.replace(graph, edge_time=None, node_time=None)
    with pytest.raises(InputError, match="node_time= or edge_time="):
        trained(bare)


@pytest.mark.parametrize("tested", [True, False])
def test_room_and_interval_count_the_graphs_that_are_evaluated(tested, monkeypatch):
    """What was known at each cut, and all of it only where there are test nodes."""
    given_ = timed()
    late = torch.randint(0, 60, (2, 4_000), generator=torch.Generator().manual_seed(1))
    given_["edge_index"] = torch.cat([given_["edge_index"], late], 1)
    given_["edge_weight"] = torch.cat([given_["edge_weight"], torch.ones(4_000)])
    given_["edge_time"] = torch.cat([given_["edge_time"], torch.full((4_000,), 9)])
    if not tested:
        given_["test"] = torch.zeros(60, dtype=torch.bool)
    graph, checked, counted = made(given_), [], []
    together = sizes.sizes_of_all

    def counting(evaluated):
        counted[:] = [g.num_edges for g in evaluated]
        return together(evaluated)

    monkeypatch.setattr(
        full_graph, "store_for", lambda model, of, **_: checked.append(of) or BUDGET
    )
    monkeypatch.setattr(full_graph, "check_convolutions", lambda *_: None)
    monkeypatch.setattr(clusters, "sizes_of_all", counting)
    trainer = TRAINERS["clusters"](MODELS["gat"](), graph, progress=False, memory="1GB")
    trainer.prepare()
    trainer._evaluator.check_room()
    every = trainer._evaluator.interval()
    known = [graph.until(cut).num_edges for cut in CUTS] + [graph.num_edges] * tested
    assert [one.num_edges for one in checked[-len(known) :]] == known == counted
    seen = graph.until(CUTS[0])
    trained_on = sizes.sizes_in_training(seen, 20, 2)
    costs = Job(seen, trainer.model).costs
    of_all = sizes.evaluation_interval(costs, trained_on, together([graph] * 3))
    assert every < of_all


def test_what_was_known_then_is_made_before_room_is_checked_without_assertions_too():
    order, names, code = [], ("train", "val"), inspect.getsource(temporal)
    optimized: dict = {}
    exec(compile(code, temporal.__file__, "exec", optimize=1), optimized)

    class Part:
        graph = property(lambda self: order.append("graph"))

        def check_room(self):
            order.append("room")

    own = optimized["Temporal"].__new__(optimized["Temporal"])
    own._of = {name: Part() for name in names}
    own.sets = lambda: list(names)
    own.check_room()
    assert order == ["graph", "graph", "room", "room"]
