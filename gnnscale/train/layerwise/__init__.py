"""Layer-wise training: every section alone, on rows aggregated once."""

from gnnscale.train.controllers.stopping import (
    Decision,
    FixedEpochs,
    LayerProgress,
    Plateau,
    StopController,
)

__all__ = ["Decision", "FixedEpochs", "LayerProgress", "Plateau", "StopController"]
