"""The public surface, family by family: what draws bad arguments, and what uses them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

import gnnscale as gs
from faults import uses
from faults.odd_values import (
    CLASSES,
    EDGES,
    FEATURES,
    NODES,
    anything,
    arrays,
    changed,
    names,
    scalars,
)
from faults.uses import GOOD
from gnnscale.declared import arguments_of
from gnnscale.train.options import ClusterOptions

Strategy = st.SearchStrategy[Any]


class Family(NamedTuple):
    """A part of the surface: what draws its arguments, what uses them, its share of the inputs."""

    arguments: Strategy
    use: Callable[[Any], None]
    share: float


def words(text: str) -> Strategy:
    return st.sampled_from(text.split())


def odd(listed: str, **others: Strategy) -> dict[str, Strategy]:
    """Odd scalars for the arguments listed, and what is given for others."""
    return {**{name: scalars() for name in listed.split()}, **others}


# --- graphs and files -------------------------------------------------------------------------

_ARRAYS = {name: anything() for name in (*GOOD, "edge_weight", "edge_attr", "node_ptr")}
_SPLITS = st.dictionaries(
    st.sampled_from(["default", "other", "", 3]),
    st.dictionaries(st.sampled_from(["train", "val", "test", "tset", 0]), anything(), max_size=3)
    | scalars(),
    max_size=2,
)
_SETTINGS = odd(
    "num_nodes num_classes name source undirected",
    splits=_SPLITS | scalars(),
    y_level=names("node", "edge", "graph"),
    task=names("classification", "multilabel", "regression"),
    metric=names("accuracy", "roc_auc"),
)
_WHOLE = uses.npz_of(GOOD)


@st.composite
def _damaged(draw: Any) -> tuple[str, str, bytes]:
    """A reader, and a file for it that is cut, changed, or noise from the start."""
    reader, suffix = draw(st.sampled_from(sorted(uses.READERS))), draw(words(".npz .npy .json"))
    kind, place = draw(words("cut changed noise")), draw(st.integers(0, len(_WHOLE) - 1))
    content = {
        "cut": _WHOLE[:place],
        "changed": _WHOLE[:place] + draw(st.binary(min_size=1, max_size=8)) + _WHOLE[place + 8 :],
        "noise": draw(st.binary(max_size=64)),
    }
    return reader, suffix, content[kind]


_NAMES = (
    st.text(max_size=12)
    | scalars()
    | st.builds(
        "synthetic:planted?{}={}&{}={}".format,
        *[
            words("nodes classes degree features homophily exponent seed nope"),
            words("0 -1 4 100 1e3 nan inf 1.0 0.5 x 1&nodes=3"),
        ]
        * 2,
    )
)
_CARD = {
    **dict.fromkeys(("title", "split", "licence", "source"), '"t"'),
    "name": '"mine"',
    "task": '"classification"',
    "num_nodes": str(NODES),
    "num_edges": str(EDGES),
    "num_features": str(FEATURES),
    "num_classes": str(CLASSES),
    "file": '"a.npz"',
}
_CARD_KEYS = st.sampled_from([*_CARD, "a b"]) | words(
    "metric y_level undirected preprocessing preset results nme"
)
_TOML = st.just("{a = 1}") | words(
    '"" 0 -1 1.5 nan true [] [1] {} 1979-05-27 x "b" ["tf-idf"] ["no"] "../../a" "\\u0000" '
    '"multilabel" "graph" 99999999999999999999'
)

# --- partitions, models, training -------------------------------------------------------------


def _that_gives(value: Any) -> Callable[..., Any]:
    return lambda graph, num_parts, seed: value


_METHODS = names("random", "contiguous", "streaming") | arrays().map(_that_gives)
_CLUSTERS = {"assignment": np.arange(NODES) % 3, "num_parts": 3, "split": "default", "view": "all"}
_WIDTHS = {"in_channels": FEATURES, "hidden_channels": 4, "num_layers": 2, "out_channels": CLASSES}
_MODEL = odd(
    "in_channels hidden_channels num_layers out_channels dropout norm_kwargs act_kwargs residual "
    "diag_lambda concatenated propagated_dropout bias K alpha theta shared_weights",
    propagation=names("mean", "mean_plus_identity", "self_loops"),
    conv=names("gcn", "sage", "gen"),
    act=names("relu", "elu"),
    norm=names("batch_norm", "graph_norm"),
    jk=names("cat", "max", "lstm"),
)


def _models(name: str) -> Strategy:
    """A keyword that there is not is Python's own TypeError: only those there are."""
    takes = inspect.signature(getattr(gs.nn, name)).parameters
    return changed({"model": name, **_WIDTHS}, {k: v for k, v in _MODEL.items() if k in takes})


_BLOCK = odd(
    "dropout residual hops",
    norm=_MODEL["norm"],
    act=_MODEL["act"],
    order=st.lists(st.sampled_from(["conv", "norm", "act", "dropout", ""])).map("-".join)
    | scalars(),
)
_TRAINER = odd(
    # Not how long, nor what is slow.
    " ".join(name for name in arguments_of(ClusterOptions) if name not in ("epochs", "compile")),
    precision=names("float32", "bf16", "fp16"),
    optimizer=names("adam", "adamw", "sgd"),
    scheduler=names("cosine", "onecycle"),
    method=_METHODS,
    balance=names("nodes", "edges"),
    keep=names("best", "last"),
    class_weight=anything() | st.just("balanced"),
    graph=anything(),
)

# --- the command line -------------------------------------------------------------------------

_OPTIONS = words(
    "--model --hidden-channels --num-layers --dropout --norm --act --jk --num-parts "
    "--clusters-per-batch --method --balance --prefetch --lr --optimizer --scheduler --clip-norm "
    "--class-weight --label-smoothing --early-stopping --keep --seed --device --task --metric "
    "--split --evaluate-every --chunk-rows --storage --run-dir --resume --checkpoint-every --nope"
)
_VALUES = words(
    "0 1 -1 2 3 nan inf 1e9 0.5 auto none best nodes sage gcn gat mlp adam metis random cpu "
    "cuda:99 train val accuracy x [b] a=1 . / ''"
) | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=5)
_SMALL = "synthetic:planted?nodes=40&classes=2&communities=4&features=3&degree=3"


@st.composite
def _commands(draw: Any) -> list[str]:
    verb = draw(words("train train partition info evaluate predict trian"))
    data = draw(st.just(_SMALL) | words("./no.npz wordnt . synthetic:planted?x=1"))
    train = ("train", "-d", data, "--epochs", "1", "--no-baselines")
    start = {
        "train": [*train, "--run-dir", str(uses.a_path())],
        "partition": ["partition", "-d", data, "--num-parts", draw(_VALUES), "--method", "random"],
        "predict": ["predict", data, "--out", draw(_VALUES)],
    }.get(verb, [verb, data])
    options = draw(st.lists(st.tuples(_OPTIONS, _VALUES), max_size=3))
    return [*start, *itertools.chain.from_iterable(options)]


# --- all of them ------------------------------------------------------------------------------

FAMILIES = {
    "Graph.from_arrays": Family(changed(GOOD, {**_ARRAYS, **_SETTINGS}), uses.from_arrays, 0.2),
    "Graph.from_data": Family(changed(GOOD, _ARRAYS), uses.from_data, 0.1),
    ".npz files": Family(changed(GOOD, {**_ARRAYS, **odd("about z")}), uses.npz, 0.1),
    "damaged files": Family(_damaged(), uses.files, 0.08),
    "paths": Family(st.tuples(st.sampled_from(sorted(uses.READERS)), scalars()), uses.paths, 0.02),
    "load": Family(_NAMES, uses.load, 0.03),
    "cards": Family(
        st.dictionaries(_CARD_KEYS, _TOML, min_size=1, max_size=3).map(lambda new: _CARD | new),
        uses.card,
        0.03,
    ),
    "partition": Family(
        changed(
            {"num_parts": 3, "method": "random"},
            odd(
                "num_parts seed imbalance threads preset",
                method=_METHODS,
                balance=names("nodes", "edges"),
            ),
        ),
        uses.partition,
        0.08,
    ),
    "cluster": Family(
        changed(_CLUSTERS, {name: anything() for name in (*_CLUSTERS, "path")}), uses.clusters, 0.06
    ),
    "ClusterLoader": Family(
        changed({}, odd("clusters_per_batch shuffle seed rank world_size prefetch stratify")),
        uses.loader,
        0.04,
    ),
    "models": Family(
        words("GCN GraphSAGE GIN GAT MLP ClusterGCN SGC SSGC TAGCN APPNP GCNII DeepGCN").flatmap(
            _models
        ),
        uses.model,
        0.12,
    ),
    "Block": Family(changed({}, _BLOCK), uses.block, 0.03),
    "forward": Family(
        changed(
            {"x": torch.from_numpy(GOOD["x"]), "adj": torch.from_numpy(GOOD["edge_index"])},
            {"x": arrays(), "adj": anything()},
        ),
        uses.forward,
        0.03,
    ),
    "ClusterTrainer": Family(changed({}, _TRAINER), uses.trainer, 0.09),
    "fit, evaluate, predict": Family(
        st.tuples(words("fit evaluate predict"), anything(), scalars()), uses.results, 0.02
    ),
    "command line": Family(_commands(), uses.command, 0.03),
}
