"""What the nodes of a graph are called where its edges come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.graph.checks import tensor
from gnnscale.graph.reading.nodes import is_marks
from gnnscale.storage.arrow import compute, pyarrow
from gnnscale.storage.mapped import loaded


class NodeNames:
    """The name of each node: an integer, or text. It may lie in a file.

    ``names[nodes]`` gives names, ``names.find(names)`` gives nodes, ``names.to_arrow()`` is a
    column to write beside predictions.

    Attributes:
        ids: int64 `[num_nodes]`, or None where names are text.
        ends: of text: int64 `[num_nodes + 1]`, where the name of each node begins and ends in
            `text`; else None.
        text: uint8 `[bytes]`, the names in UTF-8, one after the other; or None.
    """

    def __init__(
        self, ids: Tensor | None = None, ends: Tensor | None = None, text: Tensor | None = None
    ) -> None:
        self.ids, self.ends, self.text = ids, ends, text

    @classmethod
    def from_arrow(cls, column: pyarrow.Array) -> NodeNames:
        """Names from a column of text, without a copy where that is a `large_string`."""
        column = column.cast(pyarrow.large_string())
        if column.offset or column.null_count:
            column = pyarrow.concat_arrays([column])
        _, ends, text = column.buffers()
        ends = np.frombuffer(ends, np.int64, len(column) + 1)
        text = np.frombuffer(text or b"", np.uint8, int(ends[-1]))
        own = (part if part.flags.writeable else part.copy() for part in (ends, text))
        return cls(None, *map(torch.from_numpy, own))

    @classmethod
    def from_arrays(cls, arrays: dict[str, Tensor]) -> NodeNames | None:
        """What `arrays` gave, out of a stored graph; None where that has none."""
        if "name_ids" in arrays:
            return cls(arrays["name_ids"])
        if "name_ends" in arrays:
            return cls(None, arrays["name_ends"], arrays["name_text"])
        return None

    def arrays(self) -> Iterator[tuple[str, Tensor]]:
        """The arrays to store, by the names of their files."""
        named = {"name_ids": self.ids, "name_ends": self.ends, "name_text": self.text}
        yield from ((name, array) for name, array in named.items() if array is not None)

    def loaded(self) -> NodeNames:
        """The same in memory."""
        kept = (None if a is None else loaded(a) for a in (self.ids, self.ends, self.text))
        return NodeNames(*kept)

    def take(self, nodes: Tensor) -> NodeNames:
        """Those of some nodes, in their order, in memory.

        Args:
            nodes: ids, int64.
        """
        if self.ids is not None:
            return NodeNames(self.ids[nodes])
        return NodeNames.from_arrow(self.to_arrow().take(nodes.numpy()))

    def __len__(self) -> int:
        if self.ids is not None:
            return self.ids.numel()
        return 0 if self.ends is None else self.ends.numel() - 1

    def __getitem__(self, nodes: object) -> Any:
        """The name of one node, or an array of those of several.

        Args:
            nodes: a node; or node ids, a mask of booleans or a slice.

        Raises:
            InputError: a mask that is not of booleans.
        """
        if isinstance(nodes, int | np.integer):
            return self.to_arrow()[int(nodes)].as_py()
        if not isinstance(nodes, slice):
            nodes = tensor(nodes, "nodes")
            if nodes.dtype != torch.bool and nodes.numel() == len(self) > 2 and is_marks(nodes):
                raise InputError(
                    "nodes has one entry a node, each 0 or 1: for a mask give booleans, for names "
                    "of nodes 0 and 1 names[:][nodes]"
                )
        if self.ids is not None:
            return self.ids[nodes].numpy()
        chosen = torch.arange(len(self))[nodes]
        return self.to_arrow().take(chosen.numpy()).to_numpy(zero_copy_only=False)

    def find(self, names: object) -> np.ndarray:
        """The nodes of these names, int64.

        Raises:
            InputError: no node is called so.
        """
        wanted = self._column(names)
        nodes = self.look_up(wanted)
        if (absent := nodes < 0).any():
            first = wanted[int(absent.argmax())].as_py()
            raise InputError(
                f"{absent.sum():,} of {len(wanted):,} names are of no node; the first: {first!r}"
            )
        return nodes

    def look_up(self, names: object) -> np.ndarray:
        """The nodes of these names, int64; -1 where no node is called so.

        Raises:
            InputError: they cannot be names of these nodes, as text where those are integers.
        """
        found = compute.index_in(self._column(names), value_set=self.to_arrow()).fill_null(-1)
        return found.to_numpy().astype(np.int64)

    def _column(self, names: object) -> pyarrow.Array:
        """Names as a column of the type that these are of."""
        try:
            given = names if isinstance(names, pyarrow.Array) else pyarrow.array(names)
            return given.cast(pyarrow.large_string() if self.ids is None else pyarrow.int64())
        except (pyarrow.ArrowException, TypeError) as error:
            kind = "integers" if self.ids is not None else "text"
            raise InputError(f"the names of these nodes are {kind}: {error}") from error

    def to_arrow(self) -> pyarrow.Array:
        """The names as a column, in the order of the nodes."""
        if self.ids is not None:
            return pyarrow.array(self.ids.numpy())
        assert self.ends is not None and self.text is not None
        buffers = [None, *(pyarrow.py_buffer(part.numpy()) for part in (self.ends, self.text))]
        return pyarrow.Array.from_buffers(pyarrow.large_string(), len(self), buffers)

    @override
    def __repr__(self) -> str:
        return f"NodeNames({len(self):,}, {'integers' if self.ids is not None else 'text'})"
