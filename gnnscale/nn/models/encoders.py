"""Encoders of categories: what molecules' atoms and bonds are given to a network as."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.extras import from_extra


class CategoricalEncoder(nn.Module):
    """The sum of one learned vector a column: Σ_c E_c[x_c].

    OGB's AtomEncoder and BondEncoder (Hu et al., NeurIPS 2020, arXiv 2005.00687), whose state
    dictionaries it loads. It maps every row by itself: as `Block(CategoricalEncoder(…), act=None)`
    it stands at the head of a `LayeredGNN`; edge attributes it encodes inside a convolution.

    Args:
        sizes: the number of categories of each column.
        channels: width of the vectors.

    Shapes: x `[rows, columns]`, whole numbers of any type from 0 (graphs store features as floats)
    → `[rows, channels]`.

    Raises:
        InputError: a size or the width is no positive whole number; in `forward`, x has another
            number of columns, or on the CPU a category out of range.

    Example:
        >>> encoder = CategoricalEncoder([119, 5], channels=8)
        >>> encoder(torch.tensor([[5.0, 0.0], [7.0, 1.0]])).shape
        torch.Size([2, 8])
    """

    def __init__(self, sizes: Sequence[int], channels: int) -> None:
        super().__init__()
        sizes = list(sizes)
        whole = [isinstance(n, int | np.integer) and n >= 1 for n in (*sizes, channels)]
        if not sizes or not all(whole):
            raise InputError(
                f"sizes={sizes!r}, channels={channels!r}: the categories of each column and the "
                "width are whole numbers of at least 1"
            )
        self.in_channels, self.out_channels = len(sizes), int(channels)
        self.embeddings = nn.ModuleList(nn.Embedding(int(n), self.out_channels) for n in sizes)
        self.reset_parameters()
        self.register_load_state_dict_pre_hook(_read_ogb_names)

    @property
    def sizes(self) -> list[int]:
        """The number of categories of each column."""
        return [table.num_embeddings for table in self._tables()]

    def reset_parameters(self) -> None:
        """Draw the vectors anew, as OGB does: Glorot uniform."""
        for table in self._tables():
            nn.init.xavier_uniform_(table.weight)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Encode rows. x: `[rows, columns]`."""
        if x.dim() != 2 or x.size(1) != self.in_channels:
            raise InputError(
                f"x has shape {list(x.shape)}; the encoder takes [rows, {self.in_channels}]"
            )
        categories = x if x.dtype in (torch.int32, torch.int64) else x.long()
        try:
            first, *others = (
                table(column) for table, column in zip(self._tables(), categories.T, strict=True)
            )
        except IndexError as error:
            raise self._out_of_range(x) from error
        return sum(others, first)

    def _tables(self) -> list[Any]:
        return list(self.embeddings)

    def _out_of_range(self, x: Tensor) -> InputError:
        return InputError(
            [
                f"column {c} of x holds {column.min().item():g} to {column.max().item():g}; its "
                f"{size} categories are 0 to {size - 1}"
                for c, (column, size) in enumerate(zip(x.T, self.sizes, strict=True))
                if column.numel() and not (column.min() >= 0 and column.max() < size)
            ]
        )

    @override
    def extra_repr(self) -> str:
        return f"{self.sizes} -> {self.out_channels}"


def atom_encoder(channels: int) -> CategoricalEncoder:
    """The encoder of OGB's nine atom features, as in the node features of ogbg-mol*.

    Raises:
        MissingDependency: ogb is not installed.
    """
    return CategoricalEncoder(
        from_extra("ogb", "ogb.utils.features").get_atom_feature_dims(), channels
    )


def bond_encoder(channels: int) -> CategoricalEncoder:
    """The encoder of OGB's three bond features, as in the edge attributes of ogbg-mol*.

    Raises:
        MissingDependency: ogb is not installed.
    """
    return CategoricalEncoder(
        from_extra("ogb", "ogb.utils.features").get_bond_feature_dims(), channels
    )


def _read_ogb_names(
    module: nn.Module, state: dict[str, Any], prefix: str, *arguments: object
) -> None:
    own = re.compile(re.escape(prefix) + r"(?:atom|bond)_embedding_list\.(\d+\.weight)")
    for key in [key for key in state if own.fullmatch(key)]:
        state[own.sub(rf"{prefix}embeddings.\1", key)] = state.pop(key)
