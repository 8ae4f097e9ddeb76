"""What ways to train are called in tables and sentences."""

from __future__ import annotations

from gnnscale.costs.predicted.configuration import Configuration


def way(configuration: Configuration) -> str:
    """A way to train, whatever its sizes."""
    ranks, beside = configuration.ranks, ""
    stages = len(configuration.stages) + 1
    if configuration.trainer == "pipeline":
        several = max(1, ranks // stages)
        return f"{several} pipelines of {stages}" if several > 1 else f"pipeline of {stages}"
    if ranks > 1:
        beside = f" on {ranks} ranks"
    if configuration.is_full_batch:
        return f"full batch{beside}"
    names = {"cluster": "clusters", "layerwise": "layer by layer", "graph": "graphs"}
    return names[configuration.trainer] + beside


def settings(configuration: Configuration) -> str:
    """The arguments that are chosen, as a trainer takes them, but for those at their defaults."""
    return ", ".join(f"{name}={value!r}" for name, value in arguments(configuration).items())


def arguments(configuration: Configuration) -> dict[str, object]:
    """The arguments of a trainer that a configuration sets."""
    found: dict[str, object] = {}
    if configuration.trainer in ("cluster", "pipeline"):
        found |= {"num_parts": configuration.parts, "clusters_per_batch": configuration.clusters}
    if configuration.trainer == "pipeline":
        found |= {
            "stages": list(configuration.stages),
            "schedule": configuration.schedule,
            "micro_batches": configuration.micro_batches,
        }
    if configuration.trainer == "layerwise":
        found["batch_rows"] = configuration.batch_rows
    if configuration.trainer == "graph":
        found["graphs_per_batch"] = configuration.graphs
    if configuration.accumulate > 1:
        found["accumulate"] = configuration.accumulate
    if configuration.checkpoint:
        found["checkpoint_activations"] = True
    if configuration.precompute:
        found["precompute"] = True
    if configuration.prefetch != Configuration.prefetch:
        found["prefetch"] = configuration.prefetch
    return found


def short(configuration: Configuration) -> str:
    """The settings, as short as columns are."""
    said = []
    if configuration.trainer in ("cluster", "pipeline") and not configuration.is_full_batch:
        said.append(f"{configuration.clusters:,} of {configuration.parts:,}")
    if configuration.trainer == "pipeline":
        said.append(f"{configuration.micro_batches} {configuration.schedule}")
    if configuration.trainer == "layerwise":
        said.append(f"{configuration.batch_rows:,} rows")
    if configuration.trainer == "graph":
        said.append(f"{configuration.graphs:,} graphs")
    if configuration.storage == "files":
        said.append("files")
    if configuration.trainer != "layerwise" and not configuration.prefetch:
        said.append("no prefetch")
    if configuration.checkpoint:
        said.append("checkpointed")
    return ", ".join(said) or "all nodes"


def seconds(value: float | None) -> str:
    """A time of three digits: "1.23 s"."""
    if value is None:
        return ""
    for unit, scale in (("µs", 1e-6), ("ms", 1e-3)):
        if value < 999.5 * scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:,.0f} s" if value >= 99.5 else f"{value:.3g} s"


def many(value: float) -> str:
    """A count of three digits: "12.3 G"."""
    for unit in ("", "k", "M", "G", "T"):
        if value < 999.5:
            return f"{value:.3g} {unit}".strip()
        value /= 1000
    return f"{value:,.0f} P"
