"""Packages that one feature needs and an extra brings: imported when used, named where missing."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from typing_extensions import override

from gnnscale.errors import MissingDependency

#: What each extra of `pyproject.toml` is for.
FEATURES = {
    "dgl": "folders of DGL's data sets: CSVDataset and OnDiskDataset",
    "metrics": "ROC-AUC, average precision and folds by class",
    "ogb": "the Open Graph Benchmark: its list, encoders and Evaluator",
    "plots": "pictures of curves and timelines",
    "tables": "edges, features and names of nodes out of tables",
    "tensorboard": "the callback TensorBoard",
}


def from_extra(extra: str, module: str) -> ModuleType:
    """Import a module that an extra brings.

    Raises:
        MissingDependency: it cannot be imported; with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(extra, module.partition(".")[0], error) from error


def missing(extra: str, package: str, error: Exception | None = None) -> MissingDependency:
    """The error for a package of an extra that is not installed, or cannot be imported."""
    why = f" ({error})" if error is not None else ""
    return MissingDependency(
        f"{package} is missing, for {FEATURES[extra]}: pip install 'gnnscale[{extra}]'{why}"
    )


class Lazily(ModuleType):
    """Stands for a module that an extra brings, imported when a name in it is first used.

    Raises:
        MissingDependency: on that use, where it cannot be imported.
    """

    def __init__(self, extra: str, module: str) -> None:
        super().__init__(module)
        self._extra = extra

    @override
    def __getattr__(self, name: str) -> Any:
        value = getattr(from_extra(self._extra, self.__name__), name)
        setattr(self, name, value)
        return value
