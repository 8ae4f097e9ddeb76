"""Build wordnet.npz, the graph of WordNet 3.0's synsets, from the data files of WordNet.

The files data.noun, data.verb, data.adj and data.adv come with Debian's package wordnet-base
(format: manual page wndb(5WN)). What is made of them:

* a node is a synset, numbered in the order of the files and of the lines in them. Nouns and verbs
  are filed by topic, so the order follows the class: node numbers must never serve as a feature;
* an undirected edge joins two synsets with a pointer of any kind between them or their words.
  Each edge is stored once (source < target), without self-loops;
* the class is the number of the lexicographer file (noun.animal, verb.motion, adj.all ...);
* features are counts of the words of lemma and definition, lowercased and hashed by CRC-32. The
  example sentences of the gloss are left out, and so is all that tells the class outright:
  offset, lexicographer file and part of speech;
* the split is 50/25/25 of the synsets at random, by NumPy's default generator with seed 0.

Equal input gives equal bytes (with the same zlib): no time, order of a set or seeded hash enters.

    python build.py [--source /usr/share/wordnet] [--output wordnet.npz]
"""

from __future__ import annotations

import argparse
import json
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gnnscale.data.formats.array_graphs import write_arrays

FILES = {"n": "data.noun", "v": "data.verb", "a": "data.adj", "r": "data.adv"}
WORD = re.compile(r"[a-z0-9]+")
EXAMPLE = re.compile(r'"[^"]*"?')  # 20 glosses lack the closing quote

# Chosen by logistic regression on tf-idf of the training nodes, validation accuracy. Words of at
# least two synsets: 4096 columns 0.639, 8192 0.665, 16384 0.682 (for twice the parameters). With
# 8192 columns: words of at least five synsets 0.680; example sentences kept 0.654; words of more
# than a tenth of the synsets dropped 0.646, for function words tell nouns from verbs.
WIDTH = 8192
MIN_SYNSETS = 5


class Synset(NamedTuple):
    """One line of a data file."""

    key: tuple[str, str]  # part of speech and offset: what pointers refer to
    label: int
    words: list[str]
    pointers: list[tuple[str, str]]


def read_synsets(source: Path) -> list[Synset]:
    """Read the four data files, in the order of FILES."""
    synsets = []
    for part, name in FILES.items():
        with open(source / name, encoding="latin-1") as file:
            # The licence stands at the top of each file, in lines that begin with two blanks.
            synsets += [parse_line(part, line) for line in file if not line.startswith("  ")]
    return synsets


def parse_line(part: str, line: str) -> Synset:
    """Parse `offset lex_file type count word id ... count pointer ... | gloss`."""
    head, _, gloss = line.partition("|")
    fields = head.split()
    num_words = int(fields[3], 16)
    lemmas = fields[4 : 4 + 2 * num_words : 2]
    rest = fields[4 + 2 * num_words :]
    num_pointers = int(rest[0])
    pointers = []
    for k in range(num_pointers):  # symbol, offset, part of speech, words it runs between
        _, offset, target, _ = rest[1 + 4 * k : 5 + 4 * k]
        pointers.append(("a" if target == "s" else target, offset))
    definition = EXAMPLE.sub("", gloss)
    words = WORD.findall(" ".join(lemmas).lower()) + WORD.findall(definition.lower())
    return Synset((part, fields[0]), int(fields[1]), words, pointers)


def edges_of(synsets: list[Synset]) -> np.ndarray:
    """Return int32 `[2, edges]`, sorted, source < target."""
    number = {synset.key: k for k, synset in enumerate(synsets)}
    pairs = [(k, number[t]) for k, synset in enumerate(synsets) for t in synset.pointers]
    ends = np.sort(np.array(pairs, dtype=np.int64), axis=1)
    ends = np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0)
    return np.ascontiguousarray(ends.T).astype(np.int32)


def features_of(synsets: list[Synset]) -> dict[str, np.ndarray]:
    """Return the count matrix `[synsets, columns]` in compressed rows."""
    frequency = Counter(word for synset in synsets for word in set(synset.words))
    column = {
        word: zlib.crc32(word.encode()) % WIDTH
        for word, count in frequency.items()
        if count >= MIN_SYNSETS
    }
    kept = [[column[w] for w in synset.words if w in column] for synset in synsets]
    rows = np.repeat(np.arange(len(kept)), [len(row) for row in kept])
    cols = np.concatenate([np.asarray(row, dtype=np.int64) for row in kept])
    entries, counts = np.unique(rows * WIDTH + cols, return_counts=True)
    rows, cols = entries // WIDTH, entries % WIDTH
    # Columns by falling frequency, empty ones dropped: small numbers compress better.
    used = np.bincount(cols, minlength=WIDTH)
    order = np.argsort(-used, kind="stable")
    rank = np.empty(WIDTH, dtype=np.int64)
    rank[order] = np.arange(WIDTH)
    width = int(np.count_nonzero(used))
    order = np.lexsort((rank[cols], rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(synsets)))])
    return {
        "x_indptr": indptr.astype(np.int32),
        "x_indices": rank[cols][order].astype(np.uint16),
        "x_data": counts[order].astype(np.uint8),
        "x_shape": np.array([len(synsets), width], dtype=np.int64),
    }


def split_of(num_nodes: int) -> dict[str, np.ndarray]:
    """Return sorted node numbers of the random 50/25/25 split."""
    order = np.random.default_rng(0).permutation(num_nodes)
    parts = np.split(order, [num_nodes // 2, num_nodes // 2 + num_nodes // 4])
    names = ("train_idx", "val_idx", "test_idx")
    return {name: np.sort(part).astype(np.int32) for name, part in zip(names, parts, strict=True)}


def build(source: Path) -> dict[str, np.ndarray]:
    """Return all arrays of wordnet.npz."""
    synsets = read_synsets(source)
    about = {
        "name": "wordnet",
        "source": "WordNet 3.0, data.{noun,verb,adj,adv}",
        "licence": "WordNet 3.0 licence, see the file LICENSE",
        "edge_format": "undirected; each edge stored once with src<dst; no self-loops; "
        "no duplicates; symmetrise on load",
        "note": "made by build.py; WordNet 3.0 Copyright 2006 by Princeton University",
    }
    return {
        "edge_index": edges_of(synsets),
        "y": np.array([synset.label for synset in synsets], dtype=np.int16),
        **features_of(synsets),
        **split_of(len(synsets)),
        "about": np.array(json.dumps(about)),
    }


def main() -> None:
    """Build the file and print its counts."""
    parser = argparse.ArgumentParser(description="Build wordnet.npz from WordNet's data files.")
    parser.add_argument(
        "--source",
        type=Path,
        default=Path("/usr/share/wordnet"),
        help="folder with data.noun, data.verb, data.adj and data.adv (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name("wordnet.npz"),
        help="file to write (default: beside this script)",
    )
    arguments = parser.parse_args()
    missing = [name for name in FILES.values() if not (arguments.source / name).is_file()]
    if missing:
        parser.error(
            f"{arguments.source} lacks {', '.join(missing)}; install Debian's package "
            "wordnet-base or give --source"
        )
    arrays = build(arguments.source)
    write_arrays(arguments.output, arrays)
    print(
        f"{arguments.output}: {arguments.output.stat().st_size:,} bytes, "
        f"{arrays['y'].size:,} nodes, {arrays['edge_index'].shape[1]:,} undirected edges, "
        f"{np.unique(arrays['y']).size} classes, {arrays['x_shape'][1]:,} features"
    )


if __name__ == "__main__":
    main()
