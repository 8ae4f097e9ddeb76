"""The policy of the learned stop controller: what it sees of a layer's training, and what it says.

After every k-th epoch of a layer it sees 0.1 · s_t with an embedding of (t, previous action). s_t
has an entry more than there are layers: loss − loss₀ + 1 in all of them but that of layer l (from
1), s_t[l] = 1. An LSTM cell and a linear head give π(stop | s_t) (L²-GCN; You et al., CVPR 2020,
section 3.3). Here t counts the decisions of the layer and loss₀ is the loss of its first epoch, so
that no layer depends on when an earlier one happened to stop; the cell's memory runs on through all
layers.
"""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from gnnscale.train.controllers.stopping import LayerProgress
from gnnscale.train.run.records import State

Memory = tuple[Tensor, Tensor]
HIDDEN, EMBEDDING = 16, 5
_SCALE = 0.1


class Observation(NamedTuple):
    """What the policy sees at a decision.

    Attributes:
        layer: the layer in training, from 0.
        layers: how many layers are trained.
        t: decisions on this layer before this one.
        previous: the action before, of whichever layer: 1 stopped it, 0 did not.
        change: loss − loss₀.
    """

    layer: int
    layers: int
    t: int
    previous: int
    change: float


class Executed(NamedTuple):
    """A decision that was executed."""

    seen: Observation
    action: int


class StopPolicy(nn.Module):
    """π(stop | state).

    It runs on any number of layers and for any number of epochs. The last layer of a run stands
    where the last one stood in learning, and the layers before it at the latest just before that.
    From the latest decision on that learning reached, all share that decision's embedding.

    Args:
        layers: layers of the runs it learns on.
        every: k, epochs from a decision to the next.
        horizon: decisions a layer that have an embedding of their own.
        seed: of its first parameters.

    Attributes:
        reached: the latest decision of a layer that learning has come to, below `horizon`.
    """

    def __init__(self, layers: int, every: int = 10, horizon: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.layers, self.every, self.horizon = layers, every, horizon
        self.reached = 0
        with torch.random.fork_rng(devices=[]):  # the caller's own draws stay as they were
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(2 * horizon, EMBEDDING)
            self.cell = nn.LSTMCell(1 + layers + EMBEDDING, HIDDEN)
            self.head = nn.Linear(HIDDEN, 1)
        # As small as the state: embeddings of unit variance would drown it, and a decision that is
        # seldom reached would keep one that means nothing.
        with torch.no_grad():
            self.embedding.weight.mul_(_SCALE)

    @override
    def forward(self, seen: Observation, memory: Memory | None) -> tuple[Tensor, Memory]:
        """One decision.

        Returns:
            The logit of π(stop), `[]`, and the memory for the next decision.
        """
        state = torch.full((1 + self.layers,), seen.change + 1)
        state[1 + self._place(seen)] = 1
        row = 2 * min(seen.t, self.reached) + seen.previous
        inputs = torch.cat([_SCALE * state, self.embedding.weight[row]]).unsqueeze(0)
        memory = self.cell(inputs, memory)
        return self.head(memory[0]).squeeze(), memory

    def reach(self, t: int) -> None:
        """Learning has come to decision t of a layer, whose figures are its own."""
        self.reached = max(self.reached, min(t, self.horizon - 1))

    def checksum(self) -> str:
        """What tells two policies apart."""
        digest = hashlib.blake2b(f"{self.every} {self.reached}".encode(), digest_size=16)
        for name, tensor in self.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)};".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def logits(self, steps: list[Executed]) -> Tensor:
        """Those of all decisions of a run, `[steps]`, from its first one on."""
        memory, logits = None, []
        for step in steps:
            logit, memory = self(step.seen, memory)
            logits.append(logit)
        return torch.stack(logits)

    def log_prob(self, steps: list[Executed]) -> Tensor:
        """Σ log π(action) of the executed actions of a run, `[]`."""
        signs = torch.tensor([1.0 if step.action else -1.0 for step in steps])
        return functional.logsigmoid(signs * self.logits(steps)).sum()

    def _place(self, seen: Observation) -> int:
        if seen.layer == seen.layers - 1:
            return self.layers - 1
        return max(0, min(seen.layer, self.layers - 2))


class Follower:
    """A policy that follows a run: it asks at every k-th epoch, and keeps what moves."""

    def __init__(self, policy: StopPolicy) -> None:
        self.policy = policy
        self.begin(0)

    def begin(self, layer: int) -> None:
        """A layer's training begins; layer 0 begins a run."""
        if layer == 0:
            self._memory: Memory | None = None
            self._previous = 0
        self._first_loss: float | None = None

    def observe(self, progress: LayerProgress) -> Observation | None:
        """What is seen at this epoch, or None where there is nothing to decide."""
        if not math.isfinite(progress.loss):
            return None  # the trainer stops on it; a memory with NaN would outlive the layer
        if self._first_loss is None:
            self._first_loss = progress.loss
        if progress.epoch % self.policy.every:
            return None
        t = progress.epoch // self.policy.every - 1
        change = progress.loss - self._first_loss
        return Observation(progress.layer, progress.layers, t, self._previous, change)

    @torch.no_grad()
    def p_stop(self, seen: Observation) -> float:
        """π(stop) of an observation; the memory moves on."""
        logit, self._memory = self.policy(seen, self._memory)
        return float(logit.sigmoid())

    def acted(self, action: int) -> None:
        """What was executed: the next observation holds it."""
        self._previous = action

    def state_dict(self) -> State:
        """What moves during a run."""
        memory = None if self._memory is None else list(self._memory)
        return {"memory": memory, "previous": self._previous, "first_loss": self._first_loss}

    def load_state_dict(self, state: State) -> None:
        """Go on from a `state_dict`."""
        memory = state["memory"]
        self._memory = None if memory is None else (memory[0].clone(), memory[1].clone())
        self._previous, self._first_loss = state["previous"], state["first_loss"]
