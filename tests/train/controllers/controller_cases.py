"""A layer whose losses are given, for the tests of controllers."""

from gnnscale.train.controllers.stopping import LayerProgress


def run_layer(controller, losses, layer=0, layers=1, metrics=None, begin=True):
    """The epochs after which each decision was made, up to the stop."""
    if begin:
        controller.begin(layer, layers)
    decisions = []
    for epoch, loss in enumerate(losses, 1):
        metric = None if metrics is None else metrics[epoch - 1]
        decisions.append(controller.decide(LayerProgress(layer, layers, epoch, loss, metric)))
        if decisions[-1].stop:
            break
    return decisions
