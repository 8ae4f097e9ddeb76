"""Layer-wise training: every stage alone, on rows aggregated once."""

from gnnscale.train.controllers.learned import LearnedController
from gnnscale.train.controllers.stopping import (
    Decision,
    FixedEpochs,
    LayerProgress,
    Plateau,
    StopController,
)
from gnnscale.train.layerwise.trainer import LayerwiseTrainer

__all__ = [
    "Decision",
    "FixedEpochs",
    "LayerProgress",
    "LayerwiseTrainer",
    "LearnedController",
    "Plateau",
    "StopController",
]
