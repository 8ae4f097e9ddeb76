"""Convolutions in plain Python loops over scalars, on a tape: what they execute, and in what order.

Written from the papers and from what the library says of its order of computation, without its
costs. Every `total += factor * value` that runs is counted, in the forward loops and in those that
go back over the tape; every operation is a node of a graph that says what it waits for.
"""

from __future__ import annotations

import math

import networkx as nx
import numpy as np


class Tape:
    """Scalars and what was made of them.

    Attributes:
        work: multiply-adds executed so far.
        depends: the operations; edges go from what is waited for.
    """

    def __init__(self):
        self.values: list[float] = []
        self.learns: list[bool] = []
        self.work = 0
        self.depends = nx.DiGraph()
        self.ran: list[tuple[list[tuple[int, ...]], int]] = []  # what is summed, and the sum
        self.propagations: list[tuple[np.ndarray, np.ndarray]] = []  # rows in, and rows out
        self.barriers: set[int] = set()
        self.waits: int | None = None  # all that is made from now on waits for it

    def leaf(self, value, learns=False):
        self.values.append(float(value))
        self.learns.append(learns)
        self.depends.add_node(len(self.values) - 1, cost=0)
        return len(self.values) - 1

    def leaves(self, array, learns=False):
        array = np.asarray(array, dtype=float)
        made = [self.leaf(value, learns) for value in array.flat]
        return np.array(made, dtype=np.int64).reshape(array.shape)

    def made(self, value, inputs):
        own = self.leaf(value, any(self.learns[i] for i in inputs))
        self.depends.nodes[own]["cost"] = 1
        self.depends.add_edges_from((i, own) for i in inputs)
        if self.waits is not None:
            self.depends.add_edge(self.waits, own)
        return own

    def map(self, function, x):
        return self.each(lambda i: self.kept(self.made(function(self.values[i]), [i]), [(i,)]), x)

    def add(self, x, y):
        def added(i, j):
            return self.kept(self.made(self.values[i] + self.values[j], [i, j]), [(i,), (j,)])

        return self.each(added, x, y)

    def kept(self, out, terms):
        self.ran.append((terms, out))
        return out

    def each(self, function, *arrays):
        found = [function(*items) for items in zip(*(a.flat for a in arrays), strict=True)]
        return np.array(found, dtype=np.int64).reshape(arrays[0].shape)

    def tree(self, terms, function=lambda a, b: a + b):
        """A sum as a tree, or the greatest."""
        terms = list(terms)
        while len(terms) > 1:
            pairs = [terms[k : k + 2] for k in range(0, len(terms), 2)]
            terms = [
                self.made(function(*(self.values[i] for i in pair)), pair) if pair[1:] else pair[0]
                for pair in pairs
            ]
        return terms[0]

    def weighed(self, pairs, learns=False):
        """Σ factor · value, by a loop whose turns are counted; `learns`: of a sum of nothing."""
        total, terms = 0.0, []
        for factor, value in pairs:
            total += self.values[factor] * self.values[value]
            self.work += 1
            terms.append(self.made(self.values[factor] * self.values[value], [factor, value]))
        out = self.tree(terms) if terms else self.leaf(0, learns)
        assert math.isclose(self.values[out], total, rel_tol=1e-9, abs_tol=1e-12)
        return self.kept(out, list(pairs))

    def greatest(self, terms, learns=False):
        """The greatest of some, by a loop of comparisons; 0 of none.

        Back, each is looked at twice: to count those that attain it, and to give them their share.
        """
        self.work += len(terms)
        out = self.tree(terms, max) if terms else self.leaf(0, learns)
        return self.kept(out, [(i, i) for i in terms])

    def backward(self):
        """Multiply-adds of the loops back: `gradient += gradient_of_total * other`."""
        turns = 0
        for terms, out in reversed(self.ran):
            if self.learns[out]:
                turns += sum(self.learns[f] + self.learns[v] for f, v in filter(_pair, terms))
        return turns

    def depth_backward(self, out):
        """The longest chain of the loops back, from gradients of `out` that are there.

        Every gradient is a tree of sums over what its value was used for; an addition hands its
        gradient on.
        """
        parts: dict[int, list[int]] = {int(i): [0] for i in out.flat}
        most = 0

        def ready(value):
            levels = sorted(parts[value])
            while len(levels) > 1:
                pairs = [levels[k : k + 2] for k in range(0, len(levels), 2)]
                levels = [max(pair) + (len(pair) > 1) for pair in pairs]
            return levels[0]

        for terms, made in reversed(self.ran):
            if made not in parts or not self.learns[made]:
                continue
            gradient = ready(made)
            for term in terms:
                for i in filter(self.learns.__getitem__, term):
                    parts.setdefault(i, []).append(gradient + (len(term) > 1 or len(terms) == 1))
        for value in parts:
            most = max(most, ready(value))
        return most

    def barrier(self, x):
        """What comes next waits for all of this, as one kernel does for the one before."""
        own = self.made(0.0, [int(i) for i in x.flat])
        self.depends.nodes[own]["cost"] = 0
        self.waits = own
        self.barriers.add(own)

    def behind(self, value):
        """What a value depends on, were there no kernels."""
        found, left = set(), [int(value)]
        while left:
            before = set(self.depends.predecessors(left.pop())) - self.barriers - found
            found |= before
            left += before
        return found

    def depth(self):
        """The longest chain of operations."""
        longest: dict[int, int] = {}
        for node in nx.topological_sort(self.depends):
            before = (longest[i] for i in self.depends.predecessors(node))
            longest[node] = self.depends.nodes[node]["cost"] + max(before, default=0)
        return max(longest.values())

    def read(self, x):
        return np.array([self.values[i] for i in x.flat]).reshape(x.shape)


def _pair(term):
    return len(term) > 1


def product(tape, x, weight, bias=None):
    """x Wᵀ + b, row by row."""
    out = np.array([[tape.weighed(list(zip(row, w, strict=True))) for w in weight] for row in x])
    return out if bias is None else tape.add(out, np.broadcast_to(bias, out.shape))


def propagate(tape, x, rows):
    """P x, where `rows` has the factors and places of every row's entries."""
    learns = any(tape.learns[i] for i in x.flat)
    out = np.array(
        [
            [tape.weighed([(f, x[j, c]) for f, j in row], learns) for c in range(x.shape[1])]
            for row in rows
        ]
    )
    tape.propagations.append((x, out))
    return out


def factors(tape, edges, nodes, kind, self_weight=1.0):
    """P of a graph as entries: one for every edge, and one for the diagonal where P has one."""
    into = [[s for s, t in edges if t == i] for i in range(nodes)]
    loops = [sum(s == i for s in into[i]) for i in range(nodes)]
    others = [len(into[i]) - loops[i] for i in range(nodes)]
    leaf, rows = tape.leaf, []
    for i in range(nodes):
        if kind == "gcn":
            scale = [(others[j] + 1) ** -0.5 for j in range(nodes)]
            own = [(leaf(scale[i] ** 2 * (1 - loops[i])), i)]
            rows.append(own + [(leaf(scale[i] * scale[j]), j) for j in into[i]])
        elif kind == "mean":
            rows.append([(leaf(1 / len(into[i])), j) for j in into[i]])
        elif kind == "sum":
            rows.append([(leaf(self_weight), i), *((leaf(1.0), j) for j in into[i])])
        elif kind == "cluster_gcn":
            scale = 1 / (others[i] + 1)
            own = [(leaf(scale * (1 - loops[i])), i)]
            rows.append(own + [(leaf(scale), j) for j in into[i]])
    return rows


def convolution(tape, x, rows, weight, bias=None, root=None, hops=1):
    """(Pᴷ x) Wᵀ + b + x Rᵀ: P of the narrower, as the library documents it."""
    begun = tape.waits
    first = weight.shape[0] < weight.shape[1]
    out = product(tape, x, weight) if first else x
    if first:
        tape.barrier(out)
    for _ in range(hops):
        out = propagate(tape, out, rows)
        tape.barrier(out)
    if not first:
        out = product(tape, out, weight)
    if bias is not None:
        out = tape.add(out, np.broadcast_to(bias, out.shape))
    if root is not None:
        waits, tape.waits = tape.waits, begun  # beside the propagation
        own = product(tape, x, root)
        tape.waits = waits
        out = tape.add(out, own)
    tape.barrier(out)
    return out


def extremal(tape, x, edges, nodes, weight, bias, root):
    """W · (the greatest over neighbours) + b + R x."""
    learns = any(tape.learns[i] for i in x.flat)
    into = [[s for s, t in edges if t == i] for i in range(nodes)]
    columns = range(x.shape[1])
    most = [[tape.greatest([x[j, c] for j in row], learns) for c in columns] for row in into]
    out = tape.add(product(tape, np.array(most), weight, bias), product(tape, x, root))
    tape.barrier(out)
    return out


def relu(tape, x):
    out = tape.map(lambda value: max(value, 0.0), x)
    tape.barrier(out)
    return out


def attention(tape, x, edges, nodes, weight, to, of, bias, heads, slope=0.2):
    """GAT: one self-loop a node in the place of those that there are; heads side by side."""
    h = product(tape, x, weight)
    tape.barrier(h)
    width = h.shape[1] // heads
    h = h.reshape(nodes, heads, width)
    scores = [
        np.array(
            [
                [tape.weighed(list(zip(a[k], h[i, k], strict=True))) for k in range(heads)]
                for i in range(nodes)
            ]
        )
        for a in (of, to)
    ]
    tape.barrier(np.concatenate(scores))
    into = [[s for s, t in edges if t == i and s != i] + [i] for i in range(nodes)]
    out = np.zeros((nodes, heads, width), dtype=np.int64)
    for i in range(nodes):
        for k in range(heads):
            raw = [tape.add(scores[0][j : j + 1, k], scores[1][i : i + 1, k]) for j in into[i]]
            raw = tape.map(lambda v: v if v > 0 else slope * v, np.concatenate(raw))
            largest = tape.tree(raw, max)
            v = tape.values
            raw = [tape.made(v[r] - v[largest], [r, largest]) for r in raw]
            raw = [tape.made(math.exp(v[r]), [r]) for r in raw]
            total = tape.tree(raw)
            alpha = [tape.made(v[r] / v[total], [r, total]) for r in raw]
            for c in range(width):
                pairs = [(a, h[j, k, c]) for a, j in zip(alpha, into[i], strict=True)]
                out[i, k, c] = tape.weighed(pairs)
    flat = out.reshape(nodes, heads * width)
    flat = tape.add(flat, np.broadcast_to(bias, flat.shape))
    tape.barrier(flat)
    return flat
