"""Controllers learn when to stop, by imitation and REINFORCE, on models and on graphs."""

import math

import pytest
import torch

import gnnscale as gs
from gnnscale.errors import GnnscaleError, InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.train.controllers.episodes import SampledTraining
from gnnscale.train.controllers.learned import LearnedController
from gnnscale.train.controllers.learning import Learner, Outcome
from gnnscale.train.controllers.policy import StopPolicy
from gnnscale.train.controllers.stopping import Decision, FixedEpochs, LayerProgress, Plateau
from gnnscale.train.run.checkpoint import save_tree
from tests.helpers.small_runs import CLASSES, HIDDEN, IN, small_graph
from tests.train.controllers.controller_cases import run_layer


class DecayingLosses:
    """loss = 0.3 + 2·(1 − q/2)·exp(−epochs/20) + noise, q: how far the layer before is trained."""

    def __init__(self, noise=0.02, layers=2, most=200):
        self.noise, self.layers, self.most = noise, layers, most

    def __call__(self, controller, number):
        random = torch.Generator().manual_seed(number)
        trained, epochs = 0.0, []
        for layer in range(self.layers):
            controller.begin(layer, self.layers)
            for epoch in range(1, self.most + 1):
                error = self.noise * torch.randn((), generator=random).item()
                loss = 0.3 + 2 * (1 - trained / 2) * math.exp(-epoch / 20) + error
                if controller.decide(LayerProgress(layer, self.layers, epoch, loss)).stop:
                    break
            trained = 1 - math.exp(-epoch / 20)
            epochs.append(epoch)
        return Outcome(loss, epochs)

    def best_cost(self, epoch_cost):
        silent = DecayingLosses(0.0, self.layers, self.most)
        lengths = range(10, self.most, 10)
        pairs = [(one, two) for one in lengths for two in lengths]
        outcomes = [silent(FixedLengths(pair), 0) for pair in pairs]
        return min(outcome.loss + epoch_cost * sum(outcome.epochs) for outcome in outcomes)


class FixedLengths(FixedEpochs):
    def __init__(self, lengths):
        super().__init__(1)
        self.lengths = lengths

    def decide(self, progress):
        return Decision(progress.epoch >= self.lengths[progress.layer])


def test_what_is_saved_is_what_is_loaded(tmp_path):
    learner = Learner(DecayingLosses(), StopPolicy(2, every=10, seed=1), epoch_cost=0.01)
    learner.imitate(FixedEpochs(30), 1)
    learner.reinforce()
    history = [{"kind": done.kind, "epochs": done.epochs} for done in learner.history]
    controller = LearnedController(learner.policy, history, {"layers": 2})
    controller.save(tmp_path / "controller.safetensors")
    again = LearnedController.load(tmp_path / "controller.safetensors")
    assert again.describe() == controller.describe()
    assert (again.history, again.learnt_on) == (history, {"layers": 2})
    losses = [2 * 0.9**e for e in range(300)]
    assert run_layer(again, losses) == run_layer(controller, losses)
    with torch.no_grad():
        again.policy.head.bias.add_(1)
    assert again.describe() != controller.describe()
    save_tree(tmp_path / "other.safetensors", {"weights": torch.ones(2)})
    with pytest.raises(StoreError, match="not a stop controller"):
        LearnedController.load(tmp_path / "other.safetensors")


def test_imitation_comes_to_stop_where_the_teacher_does():
    learner = Learner(DecayingLosses(), StopPolicy(2), lr=0.03)
    learner.imitate(FixedEpochs(40), 3)
    assert [done.kind for done in learner.history] == ["imitation"] * 3
    assert learner.baseline == pytest.approx(sum(done.cost for done in learner.history) / 3)
    outcome = DecayingLosses()(LearnedController(learner.policy), 99)
    assert all(30 <= epochs <= 40 for epochs in outcome.epochs)


@pytest.mark.parametrize("warmup", [0, 2])
def test_learning_comes_near_the_best_policy(warmup):
    environment, epoch_cost = DecayingLosses(), 0.01
    best = environment.best_cost(epoch_cost)

    def cost(policy):
        outcomes = [environment(LearnedController(policy), 1000 + i) for i in range(5)]
        return sum(o.loss + epoch_cost * sum(o.epochs) for o in outcomes) / 5

    policy = StopPolicy(2, seed=0)
    learner = Learner(environment, policy, epoch_cost=epoch_cost, lr=0.03, seed=0)
    if warmup:
        learner.imitate(FixedEpochs(80), warmup)
    before = cost(policy)
    for _ in range(200):
        learner.reinforce()
    assert cost(policy) - best < 0.4 * (before - best)


def test_episodes_without_a_decision_teach_nothing():
    policy = StopPolicy(1, every=10)
    before = policy.checksum()
    learner = Learner(lambda controller, number: Outcome(1.0, [3]), policy)
    learner.imitate(Plateau(), 2)
    learner.reinforce()
    assert policy.checksum() == before


def test_an_episode_that_diverges_is_named():
    learner = Learner(lambda controller, number: Outcome(math.nan, [3]), StopPolicy(1))
    with pytest.raises(GnnscaleError, match="episode 0 ended with the loss nan"):
        learner.reinforce()


# --- on graphs ------------------------------------------------------------------------------

SHORT = {"every": 2, "epochs": 4, "sample": 16, "batch_rows": 8, "device": "cpu"}


def small_model(layers=2):
    torch.manual_seed(0)
    return gs.nn.GCN(IN, HIDDEN, layers, CLASSES, norm="batch_norm", dropout=0.1)


def test_it_learns_on_samples_of_a_graph_and_leaves_the_model_as_it_was():
    graph, model = small_graph(), small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.random.get_rng_state()
    learned = [
        LearnedController.learn(model, graph, rounds=2, warmup=1, seed=3, **SHORT) for _ in range(2)
    ]
    assert torch.equal(torch.random.get_rng_state(), drawn)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    first, second = learned
    assert first.describe() == second.describe() and first.history == second.history
    assert [done["kind"] for done in first.history] == ["imitation", "reinforce", "reinforce"]
    for done in first.history:
        assert len(done["epochs"]) == 2 and set(done["epochs"]) <= {2, 4}
        assert done["cost"] == pytest.approx(done["loss"] + 1e-4 * sum(done["epochs"]))
    assert first.policy.layers == 2 and first.learnt_on["num_nodes"] == graph.num_nodes


def test_episodes_of_a_number_are_alike_and_of_another_are_not():
    options = {"epochs": 3, "batch_rows": 8, "device": "cpu"}
    episode = SampledTraining(small_model(), small_graph(), 12, 0, options)
    made = SampledTraining(small_model, small_graph(), 12, 0, options)
    assert episode.num_layers == made.num_layers == 2
    outcomes = [episode(FixedEpochs(2), number) for number in (0, 0, 1)]
    assert outcomes[0] == outcomes[1] != outcomes[2]
    assert outcomes[0].epochs == [2, 2]


def test_samples_without_edges_are_harmless():
    graph = small_graph()
    bare = Graph.from_arrays(
        torch.empty(2, 0, dtype=torch.long), graph.x, graph.y, train_mask=graph.train_mask
    )
    controller = LearnedController.learn(small_model(), bare, rounds=1, warmup=1, **SHORT)
    assert all(math.isfinite(done["cost"]) for done in controller.history)


def test_a_controller_learned_on_two_layers_stops_five():
    graph = small_graph()
    controller = LearnedController.learn(small_model(), graph, rounds=1, warmup=1, **SHORT)
    trainer = gs.LayerwiseTrainer(
        small_model(5), graph, controller=controller, epochs=12, batch_rows=8, device="cpu"
    )
    report = trainer.fit()
    assert len(report.layers) == 5
    assert {row["epoch"] for row in report.rows if "p_stop" in row} <= set(range(1, 61))


def test_what_cannot_be_learned_on_is_refused():
    graph = small_graph()
    unsplit = Graph.from_arrays(graph.edge_index, graph.x, graph.y)
    with pytest.raises(InputError, match="no training nodes") as caught:
        LearnedController.learn(small_model(), unsplit, run_dir="x")
    assert len(caught.value.faults) == 2
    model = small_model()
    model.head = Scaled()
    with pytest.raises(InputError, match=r"head\.scale.* function that makes the model"):
        LearnedController.learn(model, graph)


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(CLASSES))

    def forward(self, x):
        return self.scale * x
