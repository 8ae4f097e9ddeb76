"""From what a run says of its stop controller back to the controller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from gnnscale.errors import RunMismatch
from gnnscale.train.controllers.learned import LearnedController
from gnnscale.train.controllers.stopping import (
    Decision,
    FixedEpochs,
    LayerProgress,
    Plateau,
    StopController,
)

_BY_ARGUMENTS: dict[str, Callable[..., StopController]] = {
    "FixedEpochs": FixedEpochs,
    "Plateau": Plateau,
}


def controller_from(description: dict[str, Any], path: Path) -> StopController:
    """The controller of a run.

    Args:
        description: what its `describe` said.
        path: where a learned one was saved.

    Returns:
        It; for one that gnnscale does not know, one that stands for it in all but training.

    Raises:
        StoreError: a learned controller is missing or damaged.
        RunMismatch: the learned controller at `path` is another one.
    """
    arguments = dict(description)
    name = arguments.pop("controller", None)
    if name in _BY_ARGUMENTS:
        return _BY_ARGUMENTS[name](**arguments)
    if name != "LearnedController":
        return _Absent(description)
    controller = LearnedController.load(path)
    if controller.describe() != description:
        raise RunMismatch(f"the controller in {path} is no longer the run's: pass controller=")
    return controller


class _Absent:
    """Stands for a controller that a run only describes; needed for training alone."""

    needs_validation = False

    def __init__(self, description: dict[str, Any]) -> None:
        self._description = description

    def begin(self, layer: int, layers: int) -> None:
        self._refuse()

    def decide(self, progress: LayerProgress) -> Decision:
        self._refuse()

    def state_dict(self) -> dict[str, Any]:
        self._refuse()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._refuse()

    def describe(self) -> dict[str, Any]:
        return self._description

    def _refuse(self) -> NoReturn:
        raise RunMismatch(
            f"the run's controller was {self._description}: pass controller= to load_run to go on"
        )
