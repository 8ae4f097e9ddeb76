"""Build debian.npz, the graph of Debian's binary packages, from Debian's package index.

The index of a release is three files: InRelease, main/binary-amd64/Packages and
main/i18n/Translation-en (format: Debian policy, chapter 5). What is made of them:

* a node is a binary package of the archive area main. Of several versions the last listed counts;
* an undirected edge joins two packages where one names the other in Depends, Pre-Depends,
  Recommends or Suggests. Each alternative of "a | b" is an edge; versions are left out. A name
  that is no package stands for the packages that provide it, where they are few (see
  MOST_PROVIDERS). Each edge is stored once (source < target), without self-loops;
* the class is the section (admin, cli-mono ... zope), without an archive area before the slash;
* features say which words stand in the English description, short and long, lowercased and hashed
  by CRC-32. Words that name a section are left out ("python", "games", "gnu", "r" ...). What else
  tells the section is never read: the package's name, its debtags, its files;
* nodes are numbered source package by source package, these in random order, so that the number
  says nothing of the class and packages of one source, which share their text, compress well;
* the split is 50/25/25 of the source packages at random: packages of one source have much the same
  description and often the same section, so none is in two sets.

Equal input gives equal bytes (with the same zlib). Make the files with apt, as copies from
/var/lib/apt/lists after `apt-get -o Acquire::Languages=en update`, or take them, also compressed
(.xz, .bz2, .gz), from snapshot.debian.org/archive/debian/<date>/dists/<codename>.

    python build.py --index folder-of-the-three-files [--output debian.npz]
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import hashlib
import json
import lzma
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gnnscale.data.formats.array_graphs import write_arrays

RELATIONS = ("Depends", "Pre-Depends", "Recommends", "Suggests")
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")
WORD = re.compile(r"[a-z0-9]+")
OPEN = {"": open, ".xz": lzma.open, ".bz2": bz2.open, ".gz": gzip.open}
FILES = {"Packages": "main/binary-amd64/", "Translation-en": "main/i18n/"}

# Names with one provider are interfaces of one package (perlapi-5.36.0, Haskell's ABI hashes) and
# 20,000 edges; those with many are categories (213 dictd-dictionary): joining all of their
# members to each user would add 16,000 edges that say little. Five keeps 97 % of the former kind.
MOST_PROVIDERS = 5

# Chosen by logistic regression on tf-idf of the training nodes, validation accuracy, and by size.
# Words of at least 50 packages 0.626 (2.9 MB), 30: 0.631, 20: 0.627, but with 4096 columns 0.623.
# Without words of more than half of the packages 0.622, more than a fifth 0.609. Only the first
# paragraph of the long description 0.560, only the short one 0.554.
WIDTH = 8192
MIN_PACKAGES = 50


class Package(NamedTuple):
    """What is kept of a stanza of the index."""

    name: str
    source: str
    section: str
    relations: list[str]
    provides: list[str]
    words: frozenset[str]


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of each stanza; lines of a field are joined by newlines."""
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.splitlines():
            if line[0] in " \t":  # it continues the field before
                fields[next(reversed(fields))] += f"\n{line.strip()}"
            else:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            yield fields


def names_of(relation: str) -> list[str]:
    """The package names of "a (>= 1), b:any | c", alternatives included."""
    return [NAME.match(entry.strip())[0] for entry in re.split("[,|]", relation) if entry.strip()]


def read_packages(packages: str, translation: str) -> list[Package]:
    """Read the index, sorted by name of source and of package."""
    described = {
        (stanza["Package"], stanza["Description-md5"]): stanza["Description-en"]
        for stanza in stanzas(translation)
    }
    found = {}
    for stanza in stanzas(packages):
        name = stanza["Package"]
        text = described.get((name, stanza.get("Description-md5", "")), stanza["Description"])
        found[name] = Package(
            name,
            stanza.get("Source", name).split()[0],
            stanza["Section"].split("/")[-1],
            [other for field in RELATIONS for other in names_of(stanza.get(field, ""))],
            names_of(stanza.get("Provides", "")),
            frozenset(WORD.findall(text.lower())),
        )
    return sorted(found.values(), key=lambda package: (package.source, package.name))


def number_and_split(packages: list[Package]) -> tuple[list[Package], dict[str, np.ndarray]]:
    """Put the packages in their final order; return them and the masks of the split."""
    sources = sorted({package.source for package in packages})
    numbering, drawing = np.random.default_rng(0).spawn(2)
    place = dict(zip(sources, numbering.permutation(len(sources)).tolist(), strict=True))
    share = dict(zip(sources, drawing.permutation(len(sources)) / len(sources), strict=True))
    packages = sorted(packages, key=lambda package: place[package.source])  # stable
    part = np.digitize([share[package.source] for package in packages], [0.5, 0.75])
    return packages, {f"{name}_mask": part == k for k, name in enumerate(("train", "val", "test"))}


def edges_of(packages: list[Package]) -> np.ndarray:
    """Return uint16 `[2, edges]`, sorted, source < target."""
    number = {package.name: k for k, package in enumerate(packages)}
    providers = defaultdict(set)
    for package in packages:
        for name in package.provides:
            providers[name].add(number[package.name])
    pairs = set()
    for k, package in enumerate(packages):
        for name in package.relations:
            others = {number[name]} if name in number else providers.get(name, set())
            if len(others) <= MOST_PROVIDERS:
                pairs |= {(min(k, other), max(k, other)) for other in others - {k}}
    ends = np.array(sorted(pairs), dtype=np.uint16).reshape(-1, 2)
    return np.ascontiguousarray(ends.T)


def features_of(packages: list[Package]) -> dict[str, np.ndarray]:
    """Return the matrix of ones `[packages, columns]` in compressed rows."""
    sections = {package.section for package in packages}
    banned = sections | {word for section in sections for word in WORD.findall(section)}
    frequency = Counter(word for package in packages for word in package.words)
    hashed = {
        word: zlib.crc32(word.encode()) % WIDTH
        for word, count in frequency.items()
        if count >= MIN_PACKAGES and word not in banned
    }
    rows = [{hashed[word] for word in package.words if word in hashed} for package in packages]
    # Columns by falling frequency, empty ones dropped: small numbers compress better.
    used = Counter(column for row in rows for column in row)
    order = sorted(used, key=lambda column: (-used[column], column))
    rank = {column: k for k, column in enumerate(order)}
    indices = [rank[column] for row in rows for column in sorted(row, key=rank.__getitem__)]
    return {
        "x_indptr": np.cumsum([0, *map(len, rows)]).astype(np.int32),
        "x_indices": np.array(indices, dtype=np.uint16),
        "x_shape": np.array([len(packages), len(rank)], dtype=np.int64),
    }


def build(packages: str, translation: str, release: str) -> dict[str, np.ndarray]:
    """Return all arrays of debian.npz, from the text of the three files."""
    nodes, split = number_and_split(read_packages(packages, translation))
    classes, y = np.unique([package.section for package in nodes], return_inverse=True)
    fields = dict(line.split(": ", 1) for line in release.splitlines() if ": " in line)
    date = parsedate_to_datetime(fields["Date"]).date().isoformat()
    index = f"Debian {fields['Version']} ({fields['Codename']}), main, amd64, index of {date}"
    about = {
        "name": "debian",
        "source": index,
        "date": date,
        "classes": classes.tolist(),
        "licence": "see the file LICENSE",
        "edge_format": "undirected; each edge stored once with src<dst; no self-loops; "
        "no duplicates; symmetrise on load",
        "note": "made by build.py; no text is stored, only which hashed words occur",
    }
    return {
        "edge_index": edges_of(nodes),
        "y": y.astype(np.int16),
        **features_of(nodes),
        **split,
        "about": np.array(json.dumps(about)),
    }


def read_index(folder: Path) -> tuple[str, str, str]:
    """Return the text of Packages, Translation-en and InRelease.

    Raises:
        ValueError: a file is missing or is not the one that InRelease lists.
    """
    release = (folder / "InRelease").read_text(encoding="utf-8")
    entries = [line.split() for line in release.splitlines() if line.startswith(" ")]
    listed = {entry[-1]: entry[0] for entry in entries if len(entry[0]) == 64}  # SHA-256
    texts = []
    for name, place in FILES.items():
        found = [suffix for suffix in OPEN if (folder / f"{name}{suffix}").is_file()]
        if not found:
            raise ValueError(f"{folder} lacks {name} (plain, .xz, .bz2 or .gz)")
        path = folder / f"{name}{found[0]}"
        if hashlib.sha256(path.read_bytes()).hexdigest() != listed.get(place + path.name):
            raise ValueError(f"{path} is not the file that InRelease lists as {place}{path.name}")
        with OPEN[found[0]](path, "rt", encoding="utf-8") as file:
            texts.append(file.read())
    return texts[0], texts[1], release


def main() -> None:
    """Build the file and print its counts."""
    parser = argparse.ArgumentParser(description="Build debian.npz from Debian's package index.")
    parser.add_argument(
        "--index",
        type=Path,
        required=True,
        help="folder with InRelease, Packages and Translation-en of one release",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name("debian.npz"),
        help="file to write (default: beside this script)",
    )
    arguments = parser.parse_args()
    try:
        index = read_index(arguments.index)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    arrays = build(*index)
    write_arrays(arguments.output, arrays)
    print(
        f"{arguments.output}: {arguments.output.stat().st_size:,} bytes, "
        f"{arrays['y'].size:,} nodes, {arrays['edge_index'].shape[1]:,} undirected edges, "
        f"{np.unique(arrays['y']).size} classes, {arrays['x_shape'][1]:,} features; "
        f"{json.loads(str(arrays['about']))['source']}"
    )


if __name__ == "__main__":
    main()
