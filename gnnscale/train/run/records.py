"""The dicts that a run writes down."""

from __future__ import annotations

from typing import Any

State = dict[str, Any]  # where something stands, or its weights: tensors and JSON values
Row = dict[str, Any]  # the figures of an epoch, or of a layer, in the report
Description = dict[str, Any]  # what something is, in JSON values: a model, a task, a data set
