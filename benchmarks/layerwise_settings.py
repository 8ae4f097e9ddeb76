"""The settings of layerwise.py: of L-GCN on every graph, and of what it is compared with."""

from __future__ import annotations

from typing import Any

from gnnscale.data import find_card

Settings = dict[str, Any]

GRAPHS = (
    "coauthor_cs",
    "amazon_computers",
    "facebook_pages",
    "twitch7",
    "wordnet",
    "debian",
)
LARGE = ("wordnet", "debian")
INDUCTIVE = ("twitch7",)
SEEDS, SEEDS_OF_LARGE = 10, 3
# How long a layer is trained, by method; `learned` reads the controller of section `controllers`.
CONTROLLERS = ("fixed", "plateau", "learned")
METHODS = ("full", "cluster", *CONTROLLERS, "fine_tuned")

# You et al., CVPR 2020 (arXiv 2003.13606), table 3: F1 in percent on Cora, and the split, the
# widths, the learning rate, the batch and the epochs of section 4.1 and of the released code.
PUBLISHED = {"GraphSAGE": 85.0, "L-GCN": 84.7, "L²-GCN": 84.1}
CORA = {
    "hidden_channels": 16,
    "layers": 2,
    "lr": 5e-3,
    "batch_rows": 256,
    "epochs": 80,
    "split": "full",
    # Five steps an epoch: the metric stands still at first, and long.
    "plateau": {"patience": 20, "min_delta": 0.0, "monitor": "metric"},
}

PROPAGATIONS = ("D⁻¹A + I", "GCN's")

_LAYER_NORM = {"norm": "layer_norm", "norm_kwargs": {"mode": "node"}}
_SAGE = {"model": "sage", "hidden_channels": 64, "num_layers": 2, "dropout": 0.5, **_LAYER_NORM}
_TRAIN = {"lr": 0.005, "batch_rows": 1024}
_DECAY = {"weight_decay": 5e-4}
# Chosen by hand on validation, seed 0; `model` goes to gs.nn.MODELS, `train` to LayerwiseTrainer.
LAYERWISE: dict[str, Settings] = {
    "coauthor_cs": {"model": _SAGE, "train": _TRAIN},
    # A rate that halves the epochs of the first layer, which reads 767 columns, mostly filled.
    "amazon_computers": {"model": {**_SAGE, "dropout": 0.3}, "train": {**_TRAIN, "lr": 0.01}},
    # GCN generalises better here than SAGE, whose first layer learns the training nodes by heart.
    "facebook_pages": {
        "model": {**_SAGE, "model": "gcn", "hidden_channels": 128, "dropout": 0.7},
        "train": {**_TRAIN, **_DECAY, "lr": 0.01},
        "fine_tune": {"epochs": 20},
    },
    "twitch7": {"model": {**_SAGE, "dropout": 0.7}, "train": {**_TRAIN, **_DECAY}},
    # Every layer gains, and the wider the more; large batches, since Adam goes over 7,640 columns.
    "wordnet": {
        "model": {**_SAGE, "hidden_channels": 256, "num_layers": 3},
        "train": {**_TRAIN, "batch_rows": 2048},
    },
    "debian": {"model": {**_SAGE, "hidden_channels": 128}, "train": _TRAIN},
}
# ClusterTrainer's arguments after the layers were trained one by one, where fine-tuning is on.
FINE_TUNE = {"epochs": 10, "early_stopping": 5, "evaluate_every": 1}
FIXED_EPOCHS = 80
PLATEAU = {"patience": 5, "min_delta": 0.0, "monitor": "metric"}

# A step an epoch: the learning rate that suits few steps, and an end where nothing is gained.
FULL_BATCH = {
    "num_parts": 1,
    "clusters_per_batch": 1,
    "epochs": 200,
    "lr": 0.01,
    "early_stopping": 40,
}
FULL_BATCH_OF_LARGE = {**FULL_BATCH, "epochs": 100, "early_stopping": 20}
# Hamilton et al., NeurIPS 2017: K = 2, S1 = 25, S2 = 10, batches of 512.
SAMPLED = {
    "batch": 512,
    "fanouts": [25, 10],
    "lr": 0.01,
    "dropout": 0.5,
    "patience": 4,
    "most_seconds": 90.0,
}

# What a controller is learnt with, beside its graph. On 1,024 nodes that are learnt by heart the
# loss falls for hundreds of epochs: at the paper's 1e-4 an epoch, going on always pays.
LEARN: Settings = {
    "data": "facebook_pages",
    "settings": LAYERWISE["facebook_pages"],
    "rounds": 120,
    "every": 5,
    "epoch_cost": 1e-3,
    "seed": 0,
}
# Shapes of a layer: rows of Amazon2M's width and of a wider one, batches as in training.
_PLANTED = "synthetic:planted?nodes=60000&classes=40&degree=4&features=256"
_EPOCH = {"batch_rows": 1024, "dropout": 0.2, "lr": 0.005}
EPOCH: tuple[Settings, ...] = (
    {"data": "synthetic:amazon2m?scale=0.02", "hidden": 128, "about": _EPOCH, "epochs": 20},
    {"data": "synthetic:amazon2m?scale=0.02", "hidden": 400, "about": _EPOCH, "epochs": 20},
    {"data": _PLANTED, "hidden": 256, "about": _EPOCH, "epochs": 20},
)
_GCN = {"model": "gcn", "num_layers": 3, "dropout": 0.2}
# Clusters as in amazon2m.py, until they validate as well as they do there after five epochs.
AMAZON2M: dict[str, Settings] = {
    # The paper's two layers of 128 for Amazon-3M.
    "fixed": {
        "model": {**_GCN, "hidden_channels": 128, "num_layers": 2},
        "train": {"lr": 0.005, "batch_rows": 1024, "memory": "1GB"},
        "epochs": 2,
    },
    "cluster": {
        "model": {**_GCN, "hidden_channels": 400},
        "train": {"lr": 0.01, "epochs": 5, "memory": "1GB", "method": "kaminpar"},
        "until": 0.88,
    },
}
MEMORY: Settings = {"hidden": 128, "rows_dtype": "float32"}


def preset(data: str) -> tuple[Settings, Settings]:
    """What the card gives: arguments of the model, and of ClusterTrainer."""
    card = find_card(data)
    assert card is not None
    model = dict(card.preset)
    names = ("num_parts", "clusters_per_batch", "epochs", "lr", "weight_decay", "inductive")
    train = {name: model.pop(name) for name in names if name in model}
    return model, train | {"early_stopping": model.pop("early_stopping", 20)}


def settings_of(data: str, method: str) -> Settings:
    """Arguments of the model and of the trainer for a method on a graph, as JSON has them."""
    if method in ("cluster", "full"):
        model, train = preset(data)
        if method == "full":
            train |= FULL_BATCH_OF_LARGE if data in LARGE else FULL_BATCH
        return {"model": model, "train": train}
    chosen = LAYERWISE[data]
    train = {**chosen["train"], "inductive": data in INDUCTIVE}
    if method == "fine_tuned":
        _, clusters = preset(data)
        given = {name: clusters[name] for name in ("num_parts", "clusters_per_batch", "lr")}
        train["fine_tune"] = {**given, **FINE_TUNE, **chosen.get("fine_tune", {})}
    stop = {"epochs": FIXED_EPOCHS} if method == "fixed" else {"plateau": PLATEAU}
    return {"model": chosen["model"], "train": train, **({} if method == "learned" else stop)}
