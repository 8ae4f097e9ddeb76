import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.train.controllers.learned import LearnedController
from gnnscale.train.controllers.learning import Imitation, Learner, Outcome, Sampling
from gnnscale.train.controllers.policy import Executed, Observation, StopPolicy
from gnnscale.train.controllers.stopping import Decision, FixedEpochs, LayerProgress, Plateau
from gnnscale.train.run.checkpoint import load_tree, save_tree
from tests.train.controllers.controller_cases import run_layer

# --- those without parameters ---------------------------------------------------------------


@given(st.integers(1, 30))
def test_fixed_epochs_are_fixed(epochs):
    decisions = run_layer(FixedEpochs(epochs), [1.0] * 50)
    assert [d.stop for d in decisions] == [False] * (epochs - 1) + [True]
    assert decisions[-1].why == "fixed epochs"


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60), st.integers(1, 8), st.floats(0, 1))
def test_a_plateau_is_so_many_epochs_without_improvement(losses, patience, min_delta):
    decisions = run_layer(Plateau(patience, min_delta), losses)
    best, best_epoch, ends = math.inf, 0, None
    for epoch, loss in enumerate(losses, 1):
        if -loss > -best + min_delta:
            best, best_epoch = loss, epoch
        if epoch - best_epoch == patience:
            ends = epoch
            break
    assert len(decisions) == (ends or len(losses))
    assert decisions[-1] == (Decision(True, "plateau") if ends else Decision(False))


def test_a_plateau_of_the_metric_waits_for_evaluations():
    controller = Plateau(3, 0.0, monitor="metric")
    assert controller.needs_validation and not Plateau().needs_validation
    metrics = [0.5, None, 0.6, None, None, None, 0.6, 0.9]
    decisions = run_layer(controller, [1.0] * 8, metrics=metrics)
    assert len(decisions) == 7 and decisions[-1].stop
    controller.begin(1, 2)
    lower = LayerProgress(1, 2, 1, 1.0, 0.5, higher_is_better=False)
    assert not controller.decide(lower).stop
    assert controller.state_dict() == {"best": -0.5, "best_epoch": 1}


def test_losses_that_are_no_number_are_no_improvement():
    assert len(run_layer(Plateau(3), [math.nan] * 9)) == 3
    assert len(run_layer(Plateau(3), [2.0, math.nan, 1.0, *[math.nan] * 9])) == 6


@pytest.mark.parametrize(
    ("make", "faults"),
    [
        (lambda: FixedEpochs(0), 1),
        (lambda: FixedEpochs(True), 1),
        (lambda: Plateau(0, -1.0, "accuracy"), 3),
        (lambda: Plateau(min_delta=math.nan), 1),
        (lambda: LearnedController.learn(None, None, rounds=-1, every=0, policy_lr=0), 3),
        (lambda: LearnedController.learn(None, None, every=10, epochs=9), 1),
        (lambda: LearnedController.learn(None, None, teacher=Plateau(monitor="metric")), 1),
    ],
)
def test_arguments_out_of_range_are_listed(make, faults):
    with pytest.raises(InputError) as caught:
        make()
    assert len(caught.value.faults) == faults


# --- the policy -----------------------------------------------------------------------------


def observed(random, steps, layers):
    seen = []
    for t in range(steps):
        layer = int(torch.randint(layers, (), generator=random))
        previous = int(torch.randint(2, (), generator=random))
        change = torch.randn((), generator=random).item()
        seen.append(Observation(layer, layers, t, previous, change))
    return seen


def test_the_state_is_what_the_paper_says():
    policy = StopPolicy(2)
    inputs = []
    policy.cell.register_forward_pre_hook(lambda _, given: inputs.append(given[0][0]))
    policy(Observation(1, 2, 0, 1, -0.5), None)
    torch.testing.assert_close(inputs[0][:3], torch.tensor([0.05, 0.05, 0.1]))
    assert torch.equal(inputs[0][3:], policy.embedding.weight[1])


def log_prob_by_hand(policy, weights, steps):
    """Σ log π written out in float64, without autograd or torch's cells."""
    w = {name: value.double() for name, value in weights.items()}
    h = c = torch.zeros(policy.cell.hidden_size, dtype=torch.float64)
    total = 0.0
    for seen, action in steps:
        state = [seen.change + 1.0] * (policy.layers + 1)
        state[1 + seen.layer] = 1.0
        row = w["embedding.weight"][2 * seen.t + seen.previous]
        x = torch.cat([0.1 * torch.tensor(state, dtype=torch.float64), row])
        gates = w["cell.weight_ih"] @ x + w["cell.bias_ih"] + w["cell.weight_hh"] @ h
        i, f, g, o = (gates + w["cell.bias_hh"]).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        p_stop = 1 / (1 + math.exp(-float(w["head.weight"][0] @ h + w["head.bias"][0])))
        total += math.log(p_stop if action else 1 - p_stop)
    return total


def test_gradients_are_those_of_a_hand_written_reinforce():
    random = torch.Generator().manual_seed(1)
    policy = StopPolicy(3, every=5, horizon=8, seed=4)
    policy.reach(7)
    steps = [Executed(seen, i % 3 == 2) for i, seen in enumerate(observed(random, 6, 3))]
    steps = [Executed(seen, int(action)) for seen, action in steps]
    weights = {name: value.clone() for name, value in policy.state_dict().items()}
    by_hand = log_prob_by_hand(policy, weights, steps)
    assert policy.log_prob(steps).item() == pytest.approx(by_hand, rel=1e-5)

    advantage, h = 0.7, 1e-4
    (advantage * policy.log_prob(steps)).backward()
    for name, parameter in policy.named_parameters():
        places = torch.randperm(parameter.numel(), generator=random)[:12]
        for place in places.tolist():
            sides = []
            for sign in (1, -1):
                moved = {key: value.double().clone() for key, value in weights.items()}
                moved[name].view(-1)[place] += sign * h
                sides.append(log_prob_by_hand(policy, moved, steps))
            slope = advantage * (sides[0] - sides[1]) / (2 * h)
            assert parameter.grad.view(-1)[place].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_a_round_is_one_step_of_adam_on_the_executed_actions():
    policy, twin = StopPolicy(2, every=5, seed=3), StopPolicy(2, every=5, seed=3)
    executed = []

    def episode(controller, number):
        epochs = []
        for layer in range(2):
            decisions = run_layer(controller, [2 / e for e in range(1, 61)], layer, 2)
            executed.extend(d for d in decisions if d.p_stop is not None)
            epochs.append(len(decisions))
        return Outcome(0.5, epochs)

    learner = Learner(episode, policy, epoch_cost=0.01, lr=0.02, seed=5)
    learner.baseline = 0.4
    done = learner.reinforce()
    assert done.cost == pytest.approx(0.5 + 0.01 * sum(done.epochs)) and done.baseline == 0.4
    assert learner.baseline == pytest.approx(0.9 * 0.4 + 0.1 * done.cost)

    # The same decisions once more, from what the trainer saw of them.
    twin.reach(policy.reached)
    sampling = Sampling(twin, 5)
    twice = executed.copy()
    executed.clear()
    episode(sampling, 0)
    assert twice == executed
    assert [bool(step.action) for step in sampling.steps] == [d.stop for d in twice]
    probabilities = [d.p_stop if d.stop else 1 - d.p_stop for d in twice]
    log_prob = twin.log_prob(sampling.steps)
    assert log_prob.item() == pytest.approx(sum(math.log(p) for p in probabilities), rel=1e-5)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.02)
    ((done.cost - 0.4) * log_prob).backward()
    optimizer.step()
    for mine, other in zip(policy.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)


def test_sampled_stops_are_as_frequent_as_the_policy_says():
    policy = StopPolicy(1, every=1)
    with torch.no_grad():
        policy.head.weight.zero_()
        policy.head.bias.fill_(math.log(0.3 / 0.7))
    sampling, stops = Sampling(policy, 0), 0
    for _ in range(1000):
        stops += run_layer(sampling, [1.0])[0].stop
    assert abs(stops / 1000 - 0.3) < 0.05  # 3.4 standard deviations


def test_a_teacher_is_held_to_the_decisions_of_the_policy():
    imitation = Imitation(StopPolicy(1, every=4), FixedEpochs(6))
    decisions = run_layer(imitation, [1.0 - e / 10 for e in range(20)])
    assert len(decisions) == 8 and decisions[-1].why == "teacher"
    assert [step.action for step in imitation.steps] == [0, 1]
    assert [step.seen.previous for step in imitation.steps] == [0, 0]


# --- in use ---------------------------------------------------------------------------------


def constant(p_stop, **arguments):
    policy = StopPolicy(2, **arguments)
    with torch.no_grad():
        policy.head.weight.zero_()
        policy.head.bias.fill_(math.log(p_stop / (1 - p_stop)) if p_stop else -1e4)
    return LearnedController(policy)


@pytest.mark.parametrize(("p_stop", "decisions"), [(0.9, 1), (0.5001, 1), (0.3, 2), (0.1, 7)])
def test_it_stops_at_the_median_of_its_own_stopping_time(p_stop, decisions):
    controller = constant(p_stop, every=3)
    for layer in range(2):
        made = run_layer(controller, [1.0] * 50, layer, 2)
        assert len(made) == 3 * decisions
        assert [d.p_stop is not None for d in made] == [e % 3 == 2 for e in range(len(made))]
        assert made[-1].p_stop == pytest.approx(p_stop, abs=1e-6)


def test_a_policy_that_never_stops_runs_on_without_end():
    controller = constant(0.0, every=1, horizon=5)
    assert not any(d.stop for d in run_layer(controller, [1.0] * 2_000))
    assert all(math.isfinite(float(part.abs().max())) for part in controller._watch._memory)


@given(st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_it_runs_on_models_of_any_depth(learned_on, layers):
    policy = StopPolicy(learned_on, every=1)
    places = [policy._place(Observation(layer, layers, 0, 0, 0.0)) for layer in range(layers)]
    assert places[-1] == learned_on - 1  # the last stands where the last one stood
    assert places == sorted(places) and all(0 <= place < learned_on for place in places)
    if layers == learned_on:
        assert places == list(range(layers))
    controller = LearnedController(policy)
    for layer in range(layers):
        run_layer(controller, [1.0, 0.5, 0.4], layer, layers)


def test_a_loss_that_is_no_number_decides_nothing():
    controller = constant(0.9, every=1)
    assert run_layer(controller, [math.nan, math.inf]) == [Decision(False), Decision(False)]
    assert run_layer(controller, [1.0], begin=False)[0].stop


def plans(kind):
    policy = StopPolicy(2, every=2, seed=7)
    if kind == "sampling":
        return Sampling(policy, 3)
    return Imitation(policy, Plateau(4, 0.3)) if kind == "imitation" else LearnedController(policy)


@pytest.mark.parametrize("kind", ["plateau", "learned", "sampling", "imitation"])
@pytest.mark.parametrize("cut", [0, 1, 3, 4])
def test_a_run_goes_on_in_the_middle_of_a_layer(kind, cut, tmp_path):
    def make():
        return Plateau(4, 0.3) if kind == "plateau" else plans(kind)

    def decisions(controller, epochs):
        return [controller.decide(LayerProgress(1, 2, e, 2.0 / e + (e % 3) / 10)) for e in epochs]

    whole, first, second = make(), make(), make()
    for controller in (whole, first):
        run_layer(controller, [2.0, 1.0, 0.9, 0.8], 0, 2)
        controller.begin(1, 2)
    expected = decisions(whole, range(1, 12))
    begun = decisions(first, range(1, cut + 1))
    save_tree(tmp_path / "state.safetensors", first.state_dict())
    second.load_state_dict(load_tree(tmp_path / "state.safetensors"))
    assert begun + decisions(second, range(cut + 1, 12)) == expected
    if kind in ("sampling", "imitation"):
        assert second.steps == whole.steps


# --- learning -------------------------------------------------------------------------------
