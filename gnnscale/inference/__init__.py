"""Exact inference over the whole graph in bounded memory, and metrics of it."""

from gnnscale.inference.engine import check_features, stream
from gnnscale.inference.evaluation import evaluate, predict
from gnnscale.inference.metrics import METRICS, Metric, make_metric

__all__ = ["METRICS", "Metric", "check_features", "evaluate", "make_metric", "predict", "stream"]
