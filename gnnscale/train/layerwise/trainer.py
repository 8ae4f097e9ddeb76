"""LayerwiseTrainer: L-GCN and L²-GCN (You et al., CVPR 2020)."""

from __future__ import annotations

import logging

from gnnscale.costs.sizes import sizes_for
from gnnscale.declared import takes
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.nn import LayeredGNN, as_layered
from gnnscale.train.arguments import as_data, as_seen, as_task, option_faults
from gnnscale.train.clusters import Clusters
from gnnscale.train.controllers.stopping import FixedEpochs, StopController, controller_faults
from gnnscale.train.evaluators.temporal import evaluator_of
from gnnscale.train.known import Known, known_then
from gnnscale.train.layerwise.fine_tuning import FineTuning
from gnnscale.train.layerwise.sessions import LayerByLayer, is_opaque
from gnnscale.train.options import LayerwiseOptions
from gnnscale.train.session import Setup
from gnnscale.train.task import Task
from gnnscale.train.trainer import Trainer

logger = logging.getLogger(__name__)


class LayerwiseTrainer(Trainer):
    """Trains a model layer by layer, each alone, on features that are aggregated once.

    For layer l the features of the layer before are propagated, X_l = P H_{l−1}, once and over the
    whole graph. Then W_l is trained on mini-batches of the rows of X_l, with a temporary linear
    classifier behind it, as a perceptron is: no neighbours are read, and what a step needs does not
    grow with the graph (with `storage=`, neither do rows and layers in memory). H_l = σ(X_l W_l) is
    what the next layer propagates; the classifier is dropped, but for the last layer, whose output
    is the model's (You et al., CVPR 2020, section 3.1). Test figures are those of the whole model
    on the whole graph.

    It takes every `LayeredGNN`. A layer is a convolution with the row-local steps behind it, up to
    the next convolution; dropout in front of the first one acts on the aggregated rows. Where
    aggregation cannot be separated from what is trained (attention, a convolution that is not
    registered), the layer is trained on clusters of its frozen input, as by a `ClusterTrainer`.

    Raises:
        InputError: listing every argument and every part of the data that is at fault.
        UnsupportedModel: two layers share a parameter.
        StoreError: the run folder cannot be written.

    Example:
        >>> import gnnscale as gs
        >>> graph = gs.load("synthetic:planted?nodes=2000")
        >>> model = gs.nn.GCN(graph.num_features, 32, 2, graph.num_classes)
        >>> trainer = gs.LayerwiseTrainer(model, graph, controller=gs.FixedEpochs(10))
        >>> report = trainer.fit()
        >>> accuracy = trainer.evaluate("test")["accuracy"]
    """

    @takes(LayerwiseOptions)
    def __init__(self, options: LayerwiseOptions) -> None:
        model, given, known, task, config, sizes = _read(options, option_faults(options))
        setup = Setup(model, task, config)
        data = Clusters(
            setup,
            given,
            sizes[0],
            known=known,
            inductive=config.inductive,
            seed=config.seed,
            keeps_given=True,
        )
        evaluator = evaluator_of(setup, data, lambda _: 1)
        fine_tuning = None
        if config.fine_tune is not None:  # checked before anything runs
            fine_tuning = FineTuning(setup, config, data, evaluator)
        assert config.controller is not None
        self.controller: StopController = config.controller
        sessions = LayerByLayer(
            setup, config, data, evaluator, config.controller, sizes[1], fine_tuning
        )
        self._put_together(setup, data, evaluator, sessions)


def _read(
    options: LayerwiseOptions, faults: list[str]
) -> tuple[
    LayeredGNN,
    Graph | ClusteredGraph,
    Known | None,
    Task,
    LayerwiseOptions,
    tuple[int, int],
]:
    """Model, data, what is known of these, task, settled options; clusters, how many a step."""
    options = options.sound()
    data, sizes = as_data(options.graph, options.task), (1, 1)
    whole = data.graph if isinstance(data, ClusteredGraph) else data
    controller = FixedEpochs(80) if options.controller is None else options.controller
    split, inductive, unfit = as_seen(data, options.split, options.inductive)
    if wrong := controller_faults("controller", controller):
        raise InputError([*faults, *wrong])
    known, trained, late = known_then(data, split)
    faults += late
    try:
        task = as_task(options, whole if known is None else known.train, split)
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(faults)
    model, given = as_layered(options.model), (options.num_parts, options.clusters_per_batch)
    if is_opaque(model):
        *found, impossible = sizes_for(trained, model, split, inductive, *given)
        if faults := [*unfit, *impossible]:
            raise InputError(faults)
        sizes = (found[0], found[1])
    elif given != (None, None):
        logger.warning(
            "num_parts and clusters_per_batch do nothing here: every layer of this model is "
            "aggregated once, and none is trained on clusters (fine_tune takes its own)"
        )
    config = options.settled(controller=controller, split=split, inductive=inductive)
    return model, data, known, task, config, sizes
