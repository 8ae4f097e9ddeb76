"""Graphs to partition, and the methods as test parameters."""

import importlib.util

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from gnnscale.graph import Graph

MODULES = {"kaminpar": "kaminpar", "metis": "pymetis"}


def installed(method):
    """Say whether the package of a method can be imported."""
    return method not in MODULES or importlib.util.find_spec(MODULES[method]) is not None


def method_param(name):
    """A test parameter that is skipped where the package is missing."""
    return pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason="not installed"))


NATIVE = [method_param(name) for name in MODULES]
SEEING = [*NATIVE, method_param("streaming")]
ALL = [*SEEING, method_param("random"), method_param("contiguous")]


@st.composite
def graphs(draw, min_nodes=2, max_nodes=40):
    """Directed multigraphs with isolated nodes, self-loops and duplicates."""
    n = draw(st.integers(min_nodes, max_nodes))
    used = draw(st.integers(1, n))  # the rest is isolated
    m = draw(st.integers(0, 4 * n))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    edges = rng.integers(0, used, (2, m))
    return Graph.from_arrays(torch.from_numpy(edges), num_nodes=n)


def planted(num_nodes=2000, blocks=20, degree=12, inside=0.8, seed=0):
    """An undirected graph whose blocks hold `inside` of the edges."""
    rng = np.random.default_rng(seed)
    block = rng.permutation(num_nodes) % blocks
    order = np.argsort(block, kind="stable").reshape(blocks, -1)
    source = rng.integers(0, num_nodes, num_nodes * degree // 2)
    near = order[block[source], rng.integers(0, order.shape[1], len(source))]
    far = rng.integers(0, num_nodes, len(source))
    target = np.where(rng.random(len(source)) < inside, near, far)
    edges = torch.from_numpy(np.stack([source, target]))
    return Graph.from_arrays(edges, num_nodes=num_nodes, undirected=True)
