"""LearnedController: the learned stop controller of L²-GCN (You et al., CVPR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from typing_extensions import override

from gnnscale.choices import whole_faults
from gnnscale.errors import InputError
from gnnscale.storage.formats import Format
from gnnscale.train.arguments import as_data
from gnnscale.train.controllers.episodes import SampledTraining
from gnnscale.train.controllers.learning import Learner
from gnnscale.train.controllers.policy import Follower, StopPolicy
from gnnscale.train.controllers.stopping import (
    Decision,
    LayerProgress,
    Plateau,
    StopController,
    controller_faults,
    number_faults,
)
from gnnscale.train.run.checkpoint import load_tree, save_tree
from gnnscale.train.run.records import Description, Row, State

FORMAT = Format(
    "gnnscale stop controller",
    1,
    "stop controller",
    "gnnscale.LearnedController.learn(…).save(path)",
)
_LONGEST_HORIZON = 1000


class LearnedController:
    """Stops a layer as a policy says that was learned by REINFORCE on small samples of a graph.

    Learn it once (`learn`), keep it (`save`), and use it on this graph or another (`load`), on
    models of any depth. It decides every `policy.every` epochs.

    In use it draws nothing: it stops a layer at the median of its own stopping time, the first
    decision at which the probability of having stopped by then, 1 − Π(1 − p), reaches one half.
    That is p ≥ 0.5 for a policy that is sure, and what the same policy would do when sampled, in
    the middle, for one that spread its stops: p ≥ 0.5 alone would never stop the latter. The
    threshold is no property of how learning happened to end.

    Args:
        policy: the policy.
        history: the rounds in which it was learned.
        learnt_on: what it was learned on, as JSON values.

    Example:
        >>> import gnnscale as gs
        >>> graph = gs.load("synthetic:planted?nodes=2000")
        >>> model = gs.nn.GCN(graph.num_features, 16, 2, graph.num_classes)
        >>> controller = gs.LearnedController.learn(model, graph, rounds=200)  # doctest: +SKIP
        >>> controller.save("controller.safetensors")  # doctest: +SKIP
        >>> trainer = gs.LayerwiseTrainer(model, graph, controller=controller)  # doctest: +SKIP
    """

    needs_validation = False

    def __init__(
        self,
        policy: StopPolicy,
        history: Sequence[Row] = (),
        learnt_on: Description | None = None,
    ) -> None:
        self.policy = policy
        self.history = list(history)
        self.learnt_on = dict(learnt_on or {})
        self._watch = Follower(policy)
        self._p_going_on = 1.0

    @override
    def __repr__(self) -> str:
        about = f"every {self.policy.every} epochs, learned on {self.policy.layers} layers"
        return f"LearnedController({about} in {len(self.history)} rounds)"

    # --- in use -----------------------------------------------------------------------------

    def begin(self, layer: int, layers: int) -> None:
        """See `StopController`."""
        self._watch.begin(layer)
        self._p_going_on = 1.0

    def decide(self, progress: LayerProgress) -> Decision:
        """See `StopController`."""
        seen = self._watch.observe(progress)
        if seen is None:
            return Decision(False)
        p_stop = self._watch.p_stop(seen)
        self._p_going_on *= 1 - p_stop
        stop = self._p_going_on <= 0.5
        self._watch.acted(int(stop))
        return Decision(stop, "controller" if stop else "", p_stop)

    def state_dict(self) -> State:
        """See `StopController`."""
        return {"watch": self._watch.state_dict(), "p_going_on": self._p_going_on}

    def load_state_dict(self, state: State) -> None:
        """See `StopController`."""
        self._watch.load_state_dict(state["watch"])
        self._p_going_on = state["p_going_on"]

    def describe(self) -> Description:
        """See `StopController`."""
        return {"controller": "LearnedController", "weights": self.policy.checksum()}

    # --- learning ---------------------------------------------------------------------------

    @classmethod
    def learn(
        cls,
        model: Any,
        graph: Any,
        *,
        rounds: int = 200,
        sample: int = 1024,
        seed: int = 0,
        every: int = 10,
        epoch_cost: float = 1e-4,
        epochs: int = 200,
        warmup: int = 5,
        teacher: StopController | None = None,
        policy_lr: float = 0.03,
        **options: Any,
    ) -> LearnedController:
        """Learn when to stop, by training fresh nets on samples of a graph.

        In every round the model's parameters are drawn anew and it is trained layer by layer on the
        subgraph of `sample` random training nodes; what the policy sampled is executed, and it
        learns from that alone. The model given is not changed.

        Args:
            model: what a `LayerwiseTrainer` takes; its modules draw their parameters anew by
                `reset_parameters`. Or a function without arguments that makes such a model.
            graph: what a `LayerwiseTrainer` takes.
            rounds: rounds of REINFORCE, an episode each.
            sample: training nodes of an episode; all of them where there are fewer.
            seed: of samples, parameters and decisions.
            every: epochs from a decision to the next.
            epoch_cost: β, what an epoch costs in units of the loss.
            epochs: the most a layer takes in an episode.
            warmup: episodes of the teacher that the policy imitates before the first round; with 0
                it begins with what its random weights say.
            teacher: what is imitated; `Plateau()` when None.
            policy_lr: learning rate of the policy (Adam).
            options: arguments of the `LayerwiseTrainer` of the episodes, as `lr` and `batch_rows`:
                those with which the controller will be used.

        Raises:
            InputError: an argument is out of range, or the graph has no training nodes; every fault
                is listed. Or the model has parameters that no module draws anew.
            GnnscaleError: an episode diverged.
        """
        teacher = Plateau() if teacher is None else teacher
        faults = [
            *whole_faults("rounds", rounds, 0),
            *whole_faults("sample", sample, 1),
            *whole_faults("seed", seed, 0),
            *whole_faults("every", every, 1),
            *number_faults("epoch_cost", epoch_cost, 0.0),
            *whole_faults("epochs", epochs, 1),
            *whole_faults("warmup", warmup, 0),
            *number_faults("policy_lr", policy_lr, 0.0, above=True),
        ]
        if not faults and epochs < every:
            faults.append(f"epochs={epochs} leaves no decision: it must be at least every={every}")
        faults += (wrong := controller_faults("teacher", teacher))
        if not wrong and teacher.needs_validation:
            faults.append(
                f"teacher={teacher!r} goes by the validation metric, and samples hold training "
                "nodes alone; give one that goes by the loss"
            )
        if faults:
            raise InputError(faults)
        data = as_data(graph, options.get("task", "auto"))
        episode = SampledTraining(model, data, sample, seed, {**options, "epochs": epochs})
        horizon = min(epochs // every, _LONGEST_HORIZON)
        policy = StopPolicy(episode.num_layers, every, horizon, seed)
        learner = Learner(episode, policy, epoch_cost=epoch_cost, lr=policy_lr, seed=seed)
        if warmup:
            learner.imitate(teacher, warmup)
        for _ in range(rounds):
            learner.reinforce()
        learnt_on = {
            "num_nodes": data.num_nodes,
            "layers": episode.num_layers,
            "sample": sample,
            "rounds": rounds,
            "warmup": warmup,
            "teacher": teacher.describe(),
            "epoch_cost": epoch_cost,
            "epochs": epochs,
            "seed": seed,
        }
        return cls(policy, [asdict(done) for done in learner.history], learnt_on)

    # --- kept -------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write policy, history and what it was learned on to a safetensors file.

        Raises:
            StoreError: the file cannot be written.
        """
        policy = self.policy
        sizes = {"layers": policy.layers, "every": policy.every, "horizon": policy.horizon}
        tree = {
            "format": f"{FORMAT.name} {FORMAT.version}",
            "sizes": sizes,
            "reached": policy.reached,
            "weights": policy.state_dict(),
            "history": self.history,
            "learnt_on": self.learnt_on,
        }
        save_tree(path, tree)

    @classmethod
    def load(cls, path: str | Path) -> LearnedController:
        """Read what `save` wrote.

        Raises:
            StoreError: the file is missing, damaged, or holds something else.
        """
        tree = load_tree(path)
        name, _, version = str(tree.get("format") if isinstance(tree, dict) else tree).rpartition(
            " "
        )
        FORMAT.check({"format": name, "version": int(version) if version.isdigit() else 0}, path)
        policy = StopPolicy(**tree["sizes"])
        policy.load_state_dict(tree["weights"])
        policy.reached = tree["reached"]
        return cls(policy, tree["history"], tree["learnt_on"])
