"""Cards: what is known about a data set, in a TOML file beside its arrays.

A card is ``<root>/<name>/card.toml``; a name may be of two parts, as "planetoid/cora". Roots are
searched in this order: the ``root=`` argument, the folder named by the environment variable
``GNNSCALE_DATASETS``, ``datasets/`` of the repository beside the package, and the copy inside the
installed package. The working directory is never one: what a name means must not depend on where a
script is started.

Data that may not be shipped are not beside their card: they are looked for in every root as well,
as ``<root>/<name>.npz`` or beside where a card would be.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnnscale.data.recipes import Recipe, read_recipes, table_faults
from gnnscale.errors import InputError, StoreError

CARD_FILE = "card.toml"
ROOT_VARIABLE = "GNNSCALE_DATASETS"
TASKS = ("classification", "multilabel", "regression")
LEVELS = ("node", "edge", "graph")
PREPROCESSING = ("tf-idf", "row-normalise", "standardise", "scale")


@dataclass(frozen=True)
class KnownResult:
    """A result known for a data set, to compare with."""

    method: str
    metric: str
    value: float
    source: str


@dataclass(frozen=True)
class Added:
    """What is done to the raw data on load, beyond reading them.

    Attributes:
        what: in words.
        official: whether the code behind the leaderboard's own results does it too.
    """

    what: str
    official: bool


@dataclass(frozen=True)
class Card:
    """What is known about a data set.

    Attributes:
        name: what :func:`gnnscale.load` calls it; the name of its folder.
        title: one line for people.
        task: "classification", "multilabel" or "regression".
        metric: headline metric, such as "accuracy" or "roc_auc"; None for the task's own.
        num_nodes: nodes.
        num_edges: edges as stored: each undirected edge once where ``undirected`` is set.
        num_features: feature columns; 0 for none.
        num_classes: classes, labels or regression targets.
        split: where the split comes from, in words.
        default_split: what ``split=`` is where it is not given: the name of a stored set, or
            percentages of a random one; None for the first stored.
        licence: the terms the data come under.
        source: where the data come from.
        citation: what to cite.
        file: the arrays, relative to the card's folder: an ``.npz`` or a folder of ``.npy`` files;
            the card's folder itself where it is not given. See :func:`find_data`.
        undirected: each edge is stored once and stands for both directions.
        y_level: what a label belongs to: "node", "edge" or "graph".
        preprocessing: steps applied to the features on load, in order (see
            :mod:`gnnscale.data.preprocessing`).
        added: what is added to the raw data, and whether the leaderboard's code adds it too.
        leaderboard: whether results on it may be compared with a leaderboard's.
        download: the size of what is downloaded, in words, where that is known.
        results: known results.
        preset: arguments of model and trainer that suit the data set, by name, which
            ``gnnscale train`` starts from.
        recipes: published settings by name, which ``gnnscale bench`` starts from (see
            :mod:`gnnscale.data.recipes`).
        notes: what a user should know before using it.
        path: the card's own file.
    """

    name: str
    title: str
    task: str
    num_nodes: int
    num_edges: int
    num_features: int
    num_classes: int
    split: str
    licence: str
    source: str
    metric: str | None = None
    default_split: str | None = None
    citation: str = ""
    file: str = "."
    undirected: bool = False
    y_level: str = "node"
    preprocessing: tuple[str, ...] = ()
    added: tuple[Added, ...] = ()
    leaderboard: bool = False
    download: str = ""
    results: tuple[KnownResult, ...] = ()
    preset: dict[str, Any] = field(default_factory=dict, hash=False)
    recipes: dict[str, Recipe] = field(default_factory=dict, hash=False)
    notes: str = ""
    path: Path = field(default=Path(CARD_FILE), compare=False)

    @property
    def data_path(self) -> Path:
        """The ``.npz`` file or the folder of arrays, where it is beside the card."""
        return self.path.parent / self.file


def read_card(path: str | Path) -> Card:
    """Read a card.

    Raises:
        StoreError: the file cannot be read.
        InputError: it is not TOML, or fields are missing, unknown or wrong; all faults at once,
            each with file and field.
    """
    path = _as_path("card", path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error
    faults = _faults(content)
    # "planetoid/cora" is in a folder in a folder.
    depth = str(content.get("name")).count("/") + 1
    folder = "/".join(path.resolve().parts[-1 - depth : -1])
    if not faults and content["name"] != folder:
        faults.append(f"field 'name' is {content['name']!r}, but its folder is {folder!r}")
    if faults:
        raise InputError([f"{path}: {fault}" for fault in faults])
    results = tuple(KnownResult(**entry) for entry in content.pop("results", ()))
    steps = tuple(content.pop("preprocessing", ()))
    added = tuple(Added(**entry) for entry in content.pop("added", ()))
    recipes = read_recipes(content.pop("recipes", {}))
    content |= {"results": results, "preprocessing": steps, "added": added, "recipes": recipes}
    return Card(**content, path=path)


def roots(root: str | Path | None = None) -> list[Path]:
    """Return the folders that are searched for cards, in order.

    Raises:
        InputError: ``root``, or what ``GNNSCALE_DATASETS`` names, is not a folder.
    """
    package = Path(__file__).resolve().parents[1]
    found = []
    for label, given in (("root", root), (ROOT_VARIABLE, os.environ.get(ROOT_VARIABLE) or None)):
        if given is not None:
            folder = _as_path(label, given)
            if not folder.is_dir():
                raise InputError(f"{label}={os.fspath(given)!r} is not a folder of data sets")
            found.append(folder.resolve())
    found += [package.parent / "datasets", package / "_datasets"]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def _as_path(label: str, given: Any) -> Path:
    # Not graph.files.checked_path: listing cards must not import torch, which graph/ does.
    try:
        path = Path(given)
    except TypeError:
        raise InputError(f"{label}: a path is text or a Path, not {given!r}") from None
    if "\0" in str(path):
        raise InputError(f"{label}: a path holds no null character: {str(path)!r}")
    return path


def find_card(name: str, root: str | Path | None = None) -> Card | None:
    """Return the card of the data set called ``name``, or None where no root has one.

    Raises:
        InputError: the card is malformed, or ``root`` is not a folder.
    """
    for folder in roots(root):
        path = folder / name / CARD_FILE
        if os.path.isfile(path):
            return read_card(path)
    return None


def find_data(card: Card, root: str | Path | None = None) -> Path | None:
    """Return where the arrays of a data set are, or None where they are nowhere.

    Raises:
        InputError: ``root`` is not a folder.
    """
    return next((place for place in _places(card, root) if place.exists()), None)


def no_data(card: Card, root: str | Path | None = None) -> StoreError:
    """Return the error for a data set whose arrays are nowhere: where from, and where to."""
    places = ", ".join(map(str, dict.fromkeys(_places(card, root))))
    return StoreError(
        f"the data of {card.name!r} are not shipped with their card, {card.path}; they come from "
        f"{card.source}. Save them as an .npz "
        f"(its keys: gnnscale.data.formats.array_graphs) called "
        f"{card.name}.npz, in a folder named by root= or {ROOT_VARIABLE}, or give its path: "
        f"load({card.name!r}, data='path/to.npz'). Or make the graph yourself: "
        f"gnnscale.Graph.from_data(data). Looked for: {places}"
    )


def _places(card: Card, root: str | Path | None) -> list[Path]:
    places = [card.data_path]
    for folder in roots(root):
        places += [folder / f"{card.name}.npz", folder / card.name / card.file]
    return places


def list_cards(root: str | Path | None = None) -> list[Card]:
    """Return all cards, sorted by name. Of two with one name, the root searched first wins.

    Raises:
        InputError: a card is malformed, or ``root`` is not a folder.
    """
    found: dict[str, Path] = {}
    for folder in roots(root):
        for path in _card_files(folder):
            found.setdefault(path.parent.relative_to(folder).as_posix(), path)
    return [read_card(found[name]) for name in sorted(found)]


def _card_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob(f"*/{CARD_FILE}"), *folder.glob(f"*/*/{CARD_FILE}")])


def unknown_name(name: str, root: str | Path | None = None) -> InputError:
    """Return the error for a data set that there is not: close matches, then the list."""
    if os.path.exists(name):
        return InputError(
            f"no data set is called {name!r}. A file or folder of this name is here: write "
            f"'./{name}' to load it"
        )
    # Folder names, so that one malformed card does not hide the others.
    found = [(path, folder) for folder in roots(root) for path in _card_files(folder)]
    names = sorted({path.parent.relative_to(folder).as_posix() for path, folder in found})
    close = difflib.get_close_matches(name, names, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    message = f"no data set is called {name!r}.{hint} There are: {', '.join(names) or 'none'}"
    message += "; a path, as ./graph.npz; synthetic:planted?nodes=10000"
    return InputError(message)


_CHOICES = {"task": TASKS, "y_level": LEVELS}


def _faults(content: dict[str, Any]) -> list[str]:
    faults = table_faults(content, Card, leave_out=("path",))
    faults += [
        f"field {name!r} is {content[name]!r}; it must be one of {known}"
        for name, known in _CHOICES.items()
        if isinstance(content.get(name), str) and content[name] not in known
    ]
    steps = content.get("preprocessing")
    return faults + [
        f"field 'preprocessing' has the unknown step {step!r}; there are {', '.join(PREPROCESSING)}"
        for step in (steps if isinstance(steps, list) else ())
        if step not in PREPROCESSING
    ]
