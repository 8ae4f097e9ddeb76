"""How the learned controller learns: imitation first, then REINFORCE on its own decisions.

An episode is the training of a fresh net under a controller. Its cost is the loss that the last
layer ended with + β · epochs of all layers. A round of REINFORCE (Williams, Machine Learning 8,
1992) samples every decision from the policy, executes what it sampled, and minimises (cost − b) ·
Σ log π of these very actions, b being a moving average of the costs before (You et al., CVPR 2020,
section 3.3).

The policy does not start from nothing: it first imitates a teacher, by cross entropy on the actions
that the teacher executed. REINFORCE never sees those.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from gnnscale.errors import GnnscaleError
from gnnscale.train.controllers.policy import Executed, Follower, Observation, StopPolicy
from gnnscale.train.controllers.stopping import Decision, LayerProgress, StopController
from gnnscale.train.run.records import Description, State

logger = logging.getLogger(__name__)

_KEPT = 0.9  # of the baseline, a round
_IMITATION_STEPS = 50
# The probability that the policy, having imitated, stops a layer before the teacher, and that of
# going on after it: one that is certain of every action would sample nothing else.
_DOUBT = 0.5


@dataclass(frozen=True)
class Outcome:
    """What an episode came to.

    Attributes:
        loss: mean training loss of the last layer's last epoch.
        epochs: epochs that each layer took.
    """

    loss: float
    epochs: list[int]


class Episode(Protocol):
    """The training of a fresh net under a controller: the same net and data for the same number."""

    def __call__(self, controller: StopController, number: int) -> Outcome:
        """Train the net of this number (from 0) under the controller."""


@dataclass(frozen=True)
class Round:
    """A round of learning, for the record.

    Attributes:
        kind: "imitation", an episode that the teacher controlled, or "reinforce".
        cost: loss + β · epochs.
        baseline: what the cost was held against; None in imitation.
        loss: mean training loss of the last layer's last epoch.
        epochs: epochs that each layer took.
    """

    kind: str
    cost: float
    baseline: float | None
    loss: float
    epochs: list[int]


class _Recording:
    """A run whose decisions are kept, for the policy to learn from."""

    needs_validation = False

    def __init__(self, policy: StopPolicy) -> None:
        self.steps: list[Executed] = []
        self._policy = policy
        self._watch = Follower(policy)

    def begin(self, layer: int, layers: int) -> None:
        """See `StopController`."""
        self._watch.begin(layer)

    def _executes(self, seen: Observation, action: int) -> None:
        self._watch.acted(action)
        self.steps.append(Executed(seen, action))

    def state_dict(self) -> State:
        """See `StopController`."""
        steps = [[list(step.seen), step.action] for step in self.steps]
        return {"watch": self._watch.state_dict(), "steps": steps}

    def load_state_dict(self, state: State) -> None:
        """See `StopController`."""
        self._watch.load_state_dict(state["watch"])
        self.steps = [Executed(Observation(*seen), action) for seen, action in state["steps"]]


class Imitation(_Recording):
    """A teacher held to the policy's decisions, every k-th epoch."""

    def __init__(self, policy: StopPolicy, teacher: StopController) -> None:
        super().__init__(policy)
        self._teacher = teacher
        self._stops = False

    @override
    def begin(self, layer: int, layers: int) -> None:
        """See `StopController`."""
        super().begin(layer, layers)
        self._teacher.begin(layer, layers)
        self._stops = False

    def decide(self, progress: LayerProgress) -> Decision:
        """See `StopController`."""
        # Between two decisions the teacher's wish waits: it does only what the policy could do.
        self._stops = self._stops or self._teacher.decide(progress).stop
        seen = self._watch.observe(progress)
        if seen is None:
            return Decision(False)
        self._policy.reach(seen.t)
        self._executes(seen, int(self._stops))
        return Decision(self._stops, "teacher" if self._stops else "")

    @override
    def state_dict(self) -> State:
        """See `StopController`."""
        own = {"teacher": self._teacher.state_dict(), "stops": self._stops}
        return {**super().state_dict(), **own}

    @override
    def load_state_dict(self, state: State) -> None:
        """See `StopController`."""
        super().load_state_dict(state)
        self._teacher.load_state_dict(state["teacher"])
        self._stops = state["stops"]

    def describe(self) -> Description:
        """See `StopController`."""
        return {"controller": "Imitation", "teacher": self._teacher.describe()}


class Sampling(_Recording):
    """The policy, every decision drawn from it and executed."""

    def __init__(self, policy: StopPolicy, seed: int) -> None:
        super().__init__(policy)
        self._random = torch.Generator().manual_seed(seed)

    def decide(self, progress: LayerProgress) -> Decision:
        """See `StopController`."""
        seen = self._watch.observe(progress)
        if seen is None:
            return Decision(False)
        self._policy.reach(seen.t)
        p_stop = self._watch.p_stop(seen)
        action = int(torch.rand((), generator=self._random).item() < p_stop)
        self._executes(seen, action)
        return Decision(bool(action), "controller" if action else "", p_stop)

    @override
    def state_dict(self) -> State:
        """See `StopController`."""
        return {**super().state_dict(), "random": self._random.get_state()}

    @override
    def load_state_dict(self, state: State) -> None:
        """See `StopController`."""
        super().load_state_dict(state)
        self._random.set_state(state["random"])

    def describe(self) -> Description:
        """See `StopController`."""
        return {"controller": "Sampling", "weights": self._policy.checksum()}


class Learner:
    """Teaches a policy, round by round.

    Args:
        episode: what is controlled.
        policy: the policy, which is changed.
        epoch_cost: β, the cost of an epoch in units of the loss.
        lr: learning rate of Adam.
        seed: of the sampled decisions.

    Attributes:
        history: the rounds so far.
        baseline: b, None before the first cost.
    """

    def __init__(
        self,
        episode: Episode,
        policy: StopPolicy,
        *,
        epoch_cost: float = 1e-4,
        lr: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.episode, self.policy = episode, policy
        self.epoch_cost, self.seed = epoch_cost, seed
        self.history: list[Round] = []
        self.baseline: float | None = None
        self._lr = lr
        self._optimizer = torch.optim.Adam(policy.parameters(), lr=lr)

    def imitate(self, teacher: StopController, episodes: int) -> None:
        """Let the teacher control some episodes, and fit the policy to what it executed.

        The mean of their costs is the first baseline.
        """
        runs = []
        for _ in range(episodes):
            imitation = Imitation(self.policy, teacher)
            self._run("imitation", imitation)
            runs.append(imitation.steps)
        self.baseline = sum(done.cost for done in self.history) / len(self.history)
        runs = [steps for steps in runs if steps]
        if not runs:
            return  # the layers ended before the first decision: nothing was executed
        optimizer = torch.optim.Adam(self.policy.parameters(), lr=self._lr)
        actions = torch.tensor([target for steps in runs for target in _doubted(steps)])
        for _ in range(_IMITATION_STEPS):
            logits = torch.cat([self.policy.logits(steps) for steps in runs])
            _update(optimizer, functional.binary_cross_entropy_with_logits(logits, actions))

    def reinforce(self) -> Round:
        """One round: sample, execute what was sampled, learn from exactly that."""
        sampling = Sampling(self.policy, self.seed + len(self.history))
        done = self._run("reinforce", sampling)
        baseline = done.cost if self.baseline is None else self.baseline
        if sampling.steps:
            loss = (done.cost - baseline) * self.policy.log_prob(sampling.steps)
            _update(self._optimizer, loss)
        self.baseline = _KEPT * baseline + (1 - _KEPT) * done.cost
        return done

    def _run(self, kind: str, controller: StopController) -> Round:
        outcome = self.episode(controller, len(self.history))
        cost = outcome.loss + self.epoch_cost * sum(outcome.epochs)
        if not math.isfinite(cost):
            raise GnnscaleError(
                f"episode {len(self.history)} ended with the loss {outcome.loss}, from which "
                "nothing can be learned; lower the learning rate of the nets"
            )
        held = self.baseline if kind == "reinforce" else None
        self.history.append(Round(kind, cost, held, outcome.loss, list(outcome.epochs)))
        number, epochs = len(self.history), outcome.epochs
        logger.info("round %d (%s): cost %.4f after %s epochs", number, kind, cost, epochs)
        return self.history[-1]


def _doubted(steps: list[Executed]) -> list[float]:
    """The probabilities of stopping that imitation aims at, `[steps]`."""
    decisions = Counter(step.seen.layer for step in steps)
    early = {layer: 1 - (1 - _DOUBT) ** (1 / number) for layer, number in decisions.items()}
    return [1 - _DOUBT if step.action else early[step.seen.layer] for step in steps]


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
