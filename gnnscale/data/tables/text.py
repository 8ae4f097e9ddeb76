"""A table in text: its dialect recognised, its rows read in a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gnnscale.data.tables.files import opened
from gnnscale.errors import StoreError
from gnnscale.storage.arrow import csv as arrow_csv
from gnnscale.storage.arrow import pyarrow


class TextPart:
    """A text with a row a line. See `Part`."""

    typed = False
    words: tuple[str, ...] = ()
    row_numbers: frozenset[int] = frozenset()

    def __init__(
        self,
        path: Path,
        *,
        sep: str | None,
        comment: str | None,
        header: bool | Sequence[str] | None,
        encoding: str | None,
    ) -> None:
        self._path, self._sep = path, sep or ","
        self.what = str(path)
        with opened(path) as file:
            empty = not file.read(1)
        table = pyarrow.table({}) if empty else self._table({})
        self.names, self.types = table.schema.names, table.schema.types

    def count(self) -> int:
        """See `Part.count`."""
        return int(self._table({}).num_rows)

    def settle(self, columns: Sequence[int]) -> None:
        """See `Part.settle`."""

    def read(
        self, columns: Sequence[int], kinds: Mapping[int, pyarrow.DataType]
    ) -> Iterator[pyarrow.RecordBatch]:
        """See `Part.read`."""
        table = self._table({self.names[i]: kind for i, kind in kinds.items()})
        yield from table.select(list(columns)).to_batches()

    def _table(self, kinds: dict[str, pyarrow.DataType]) -> pyarrow.Table:
        try:
            with opened(self._path) as file:
                return arrow_csv.read_csv(
                    file,
                    parse_options=arrow_csv.ParseOptions(delimiter=self._sep),
                    convert_options=arrow_csv.ConvertOptions(column_types=kinds),
                )
        except (OSError, pyarrow.ArrowException) as error:
            raise StoreError(f"{self._path} cannot be read: {error}") from error
