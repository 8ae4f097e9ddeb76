"""OGB's raw files, read in a stream from a folder or straight out of the downloaded archive.

Both are given as a `Traversable` that has ``raw/`` and ``split/``: a `pathlib.Path` or a
`zipfile.Path`. A gzip's and a zip's checksums are verified on the way, so that damage is told.

A csv.gz is inflated by one thread and parsed by others, block by block, ahead of what is done with
it. Floor: inflating it, which no second thread speeds up, and `parse_rows`.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import itertools
import zipfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any

import numba
import numpy as np

from gnnscale.errors import StoreError
from gnnscale.kernels.threads import njit_serial
from gnnscale.storage.ahead import ahead
from gnnscale.storage.arrow import csv, pyarrow
from gnnscale.storage.unpacking import check_archive, too_large, unpack_limit

try:  # inflates faster; zlib where there is no wheel of it
    from isal.igzip import open as open_gzip
except ImportError:
    open_gzip = gzip.open

_TEXT_AT_ONCE = 1 << 23  # bytes
_PARSERS = 2  # threads; together they are faster than the one that inflates
_MINUS, _COMMA, _POINT, _EXPONENT, _ZERO, _LINE = (ord(c) for c in "-,.e0\n")
_MOST_DIGITS = 18  # whose number fits 63 bits
_EXACT = 2**53  # up to which a float64 is every whole number
_POWERS = 10.0 ** np.arange(23)  # those of ten that are exact in float64
_MOST_POWER = 15  # 10^(18 + 15) is still a float32


@contextlib.contextmanager
def open_raw(path: Path) -> Iterator[Traversable]:
    """Open the raw data of a set.

    Args:
        path: the folder or the zip.

    Yields:
        What has ``raw/`` and ``split/``.

    Raises:
        StoreError: it is missing, no zip, damaged, or of another layout.
    """
    if path.is_dir():
        yield path
        return
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, path, path.stat().st_size)
            tops = [name.partition("raw/")[0] for name in archive.namelist() if "raw/" in name]
            tops = [top for top in tops if top.count("/") <= 1 and not top.startswith("__MACOSX")]
            if not tops:
                raise StoreError(f"{path} is no archive of OGB's: it has no folder raw/")
            yield zipfile.Path(archive, min(tops, key=len))
    except zipfile.BadZipFile as error:
        raise StoreError(f"{path} is {_what_instead(path)}: {error}. Fetch it again") from error
    except OSError as error:
        raise StoreError(f"could not read {path}: {error.strerror or error}") from error


def csv_blocks(file: Traversable, dtype: Any) -> Iterator[np.ndarray]:
    """Read a csv.gz without a header.

    Args:
        file: the file.
        dtype: int64; or float32 or float64, of which an empty field is NaN.

    Yields:
        `[rows, columns]` of that type, some MB each. A float is the one nearest to its text.

    Raises:
        StoreError: it is missing, damaged, truncated, or holds something else.
    """
    dtype = np.dtype(dtype)
    try:
        with (
            file.open("rb") as content,
            open_gzip(content) as text,
            ThreadPoolExecutor(1, "gnnscale-inflate") as inflate,
            ThreadPoolExecutor(_PARSERS, "gnnscale-parse") as parse,
        ):
            pieces = _whole_lines(text, file)
            inflated = ahead(inflate, lambda _: next(pieces, b""), itertools.repeat(None), 1)
            lines = itertools.takewhile(len, inflated)
            for first in lines:
                columns = first.count(b",", 0, first.find(b"\n")) + 1
                parsed = functools.partial(_parsed, dtype=dtype, columns=columns, file=file)
                yield from ahead(parse, parsed, itertools.chain([first], lines), _PARSERS)
    except FileNotFoundError as error:
        raise missing(file) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise StoreError(f"{file} is damaged or truncated: {error}. Fetch it again") from error


def read_csv(file: Traversable, dtype: Any) -> np.ndarray:
    """Read a csv.gz without a header whole, `[rows, columns]`; as `csv_blocks`."""
    blocks = list(csv_blocks(file, dtype))
    return np.concatenate(blocks) if blocks else np.empty((0, 1), dtype)


def read_ids(file: Traversable) -> np.ndarray:
    """Read a csv.gz of one whole number a line, `[rows]`; as `csv_blocks`.

    Raises:
        StoreError: also where it has more columns.
    """
    table = read_csv(file, np.int64)
    if table.shape[1] != 1:
        raise StoreError(f"{file} has {table.shape[1]} columns; one number a line is expected")
    return table[:, 0]


def in_step(*streams: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, ...]]:
    """Cut the blocks of several files into blocks of the same rows, until the first file ends."""
    sources = [iter(stream) for stream in streams]
    with contextlib.ExitStack() as stack:
        for source in sources:
            stack.callback(_close, source)
        held = [next(source, None) for source in sources]
        while all(block is not None for block in held):
            count = min(len(block) for block in held if block is not None)
            yield tuple(block[:count] for block in held if block is not None)
            for i, block in enumerate(held):
                assert block is not None
                held[i] = block[count:] if len(block) > count else next(sources[i], None)


def counted(
    blocks: Iterable[np.ndarray], expected: int, file: Traversable, what: str
) -> Iterator[np.ndarray]:
    """Pass blocks on, and refuse a file that has another number of rows than expected.

    Raises:
        StoreError: it has; at the end, or as soon as there are too many.
    """
    rows = 0
    try:
        for block in blocks:
            rows += len(block)
            if rows > expected:
                break
            yield block
    finally:
        _close(blocks)
    if rows != expected:
        more = "more than " if rows > expected else ""
        raise StoreError(
            f"{file} has {more}{min(rows, expected):,} rows for {expected:,} {what}, as the raw "
            "data say themselves: they are not whole, or not of one version. Fetch them again"
        )


def size_of(file: Traversable) -> int:
    """Bytes of a file, which may be in a zip."""
    if isinstance(file, zipfile.Path):
        return file.root.getinfo(file.at).file_size
    assert isinstance(file, Path)
    return file.stat().st_size


def missing(file: Traversable) -> StoreError:
    """The error for a raw file that is not there."""
    return StoreError(
        f"{file} is missing; the raw data are not whole. Fetch them again, or complete them"
    )


def _close(blocks: Iterable[np.ndarray]) -> None:
    """End the threads of a stream here, in the thread that reads, not where garbage goes."""
    if isinstance(blocks, Generator):
        blocks.close()


def _whole_lines(text: IO[bytes], file: Traversable) -> Iterator[bytes]:
    """Cut a text after ends of lines; one is put where the last line has none."""
    rest, compressed = b"", size_of(file)
    room = unpack_limit(compressed)
    while read := text.read(_TEXT_AT_ONCE):
        if (room := room - len(read)) < 0:
            raise too_large(file, compressed)
        end = read.rfind(b"\n") + 1
        if rest and not end:
            raise OSError(f"a line of more than {_TEXT_AT_ONCE:,} bytes")
        if end:
            yield b"".join([rest, memoryview(read)[:end]])
            rest = b""
        rest += read[end:]
    if rest:
        yield rest + b"\n"


def _parsed(lines: bytes, dtype: np.dtype, columns: int, file: Traversable) -> np.ndarray:
    """Lines as `[rows, columns]`; as `csv_blocks`."""
    text = np.frombuffer(lines, np.uint8)
    # A numeral takes two bytes at least. What is not written of so large a table takes no memory.
    table = np.empty((text.size // (2 * columns) + 1, columns), dtype)
    rows = parse_rows(text, dtype.itemsize if dtype.kind == "f" else 0, table)
    return table[:rows] if rows >= 0 else _parsed_by_arrow(lines, dtype, columns, file)


def _parsed_by_arrow(lines: bytes, dtype: np.dtype, columns: int, file: Traversable) -> np.ndarray:
    """As `_parsed`, of all that Arrow takes for numbers; several times slower."""
    names = [f"f{i}" for i in range(columns)]
    kind = pyarrow.from_numpy_dtype(dtype)
    try:
        table = csv.read_csv(
            pyarrow.BufferReader(lines),
            csv.ReadOptions(column_names=names),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, kind)),
        )
    except pyarrow.ArrowInvalid as error:
        words = "numbers" if dtype.kind == "f" else "whole numbers"
        raise StoreError(f"{file} does not hold {words}: {error}") from error
    block = np.empty((table.num_rows, columns), dtype)
    for i, column in enumerate(table.columns):
        if column.null_count and dtype.kind != "f":
            raise StoreError(f"{file} has {column.null_count:,} empty fields among whole numbers")
        block[:, i] = column.to_numpy()
    return block


def _what_instead(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(512).lstrip()[:1]
    return "a web page, not a zip" if start == b"<" else "damaged or no zip"


@njit_serial
def parse_rows(text, kind, table):
    """Read the rows of a table of plain numerals.

    Floor: the bytes of text, one after the other, with a branch a numeral that no processor
    foresees: where its digits end. What is plain: an optional minus, digits, perhaps a point
    between digits, perhaps an exponent; one comma between fields, a line feed after each row.
    Anything else, and a numeral that the arithmetic here might not round as its text says, is
    refused and left to a full parser.

    Fast and exact after Clinger (PLDI 1990): a number of up to 53 bits, times or over a power of
    ten of up to 22, is rounded once in float64. For float32 the number may have 63 bits: the result
    is then off by at most two units of the 29 bits that the second rounding drops, and is refused
    where these are that close to a half.

    Args:
        text: uint8 ``[bytes]``, whole lines.
        kind: the bytes of a float in the table; 0 for whole numbers.
        table: int64, float32 or float64 ``[rows, columns]``, a row more than there can be: filled.

    Returns:
        How many rows there are; -1 where the text is not plain.
    """
    columns = table.shape[1]
    rounded = np.empty(1, np.float64)
    bits = rounded.view(np.int64)
    one, end = np.uintp(1), np.uintp(text.shape[0])
    at = np.uintp(0)  # unsigned: numba lets a signed index count from the end, and looks every time
    row = 0
    while at < end:
        for column in range(columns):
            minus = text[at] == _MINUS
            start = first = at + np.uintp(minus)
            number, at = _digits(text, first, 0)
            if at == first:
                return -1
            power = 0
            if kind and text[at] == _POINT:
                first = at + one
                number, at = _digits(text, first, number)
                power = np.int64(first - at)
                if at == first:
                    return -1
            if np.int64(at - start) > _MOST_DIGITS and _significant(text[start:at]) > _MOST_DIGITS:
                return -1
            if kind and text[at] == _EXPONENT:
                down = text[at + one] == _MINUS
                first = at + one + np.uintp(down)
                exponent, at = _digits(text, first, 0)
                if not 1 <= np.int64(at - first) <= 3:
                    return -1
                power += -exponent if down else exponent
            if text[at] != (_COMMA if column + 1 < columns else _LINE):
                return -1
            at += one
            if not kind:
                table[row, column] = -number if minus else number
                continue
            if not -22 <= power <= _MOST_POWER or (kind == 8 and number > _EXACT):
                return -1
            value = np.float64(number)
            value = value * _POWERS[power] if power >= 0 else value / _POWERS[-power]
            if kind == 4:
                rounded[0] = value
                if abs((bits[0] & 0x1FFFFFFF) - 0x10000000) <= 4:
                    return -1
            table[row, column] = -value if minus else value
        row += 1
    return row


@numba.njit
def _digits(text, at, number):
    """Go on with a number, modulo 2^64: it, and where its digits end."""
    digit = np.uint8(text[at] - np.uint8(_ZERO))
    while digit <= 9:
        number = 10 * number + np.int64(digit)
        at += np.uintp(1)
        digit = np.uint8(text[at] - np.uint8(_ZERO))
    return number, at


@numba.njit
def _significant(text):
    """How many digits a numeral without sign has, not counting zeros in front."""
    digits = 0
    for each in text:
        if each != _POINT:
            digits += digits > 0 or each != _ZERO
    return digits
