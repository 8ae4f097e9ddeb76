"""The errors of gnnscale: one family, whose messages carry the value, the limit and the remedy."""

from __future__ import annotations

from collections.abc import Sequence


class GnnscaleError(Exception):
    """Every error that gnnscale raises on purpose."""


class InputError(GnnscaleError, ValueError):
    """Input that cannot be worked with. All faults found are listed at once in ``faults``."""

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        if len(self.faults) == 1:
            super().__init__(self.faults[0])
        else:
            lines = "\n".join(f"  - {fault}" for fault in self.faults)
            super().__init__(f"{len(self.faults)} faults:\n{lines}")


class MemoryBound(InputError):
    """A bound of memory that is too small, said before anything runs; ``needed`` bytes would do."""

    def __init__(self, fault: str, needed: int) -> None:
        super().__init__(fault)
        self.needed = needed


class StoreError(GnnscaleError):
    """A file or folder on disk that is missing, damaged, truncated or could not be written."""


class DamagedStore(StoreError):
    """Stored bytes that are proven not to be those that were written."""


class PartitionError(GnnscaleError):
    """A partitioner that failed, was killed, or returned something that is not a partition."""


class UnsupportedModel(GnnscaleError):
    """A model, layer or setting that the operation asked for cannot express."""


class InexactConvolution(UnsupportedModel):
    """A convolution whose output would be silently wrong with the reach declared for it."""


class RunMismatch(GnnscaleError):
    """A run folder or checkpoint that belongs to another model, graph or configuration."""


class RunInUse(GnnscaleError):
    """A run folder that another trainer is writing into."""


class RankFailure(GnnscaleError):
    """Another rank of the same run has failed, or is gone, while this one still needs it."""


class UnsupportedPlatform(GnnscaleError):
    """Something that the operating system does not have."""


class MissingDependency(GnnscaleError, ImportError):
    """An optional package that the operation asked for and that is not installed."""
