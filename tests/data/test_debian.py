from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from gnnscale.data import find_card, load

DEBIAN = Path(__file__).resolve().parents[2] / "datasets" / "debian"

RELEASE = """\
Version: 13.0
Codename: trixie
Date: Sat, 09 Aug 2025 09:30:00 UTC
"""
PACKAGES = """\
Package: app
Source: suite (1.2)
Section: contrib/games
Depends: libapp1 (>= 1.0), python3-app:any | gone, mail-agent, category
Recommends: app
Description: Plays chess games
Description-md5: 1

Package: libapp1
Source: suite
Section: libs
Pre-Depends: app
Description: Chess library
Description-md5: 2

Package: python3-app
Version: 1
Section: python
Description: old

Package: python3-app
Version: 2
Section: python
Suggests: mail-agent
Description: Chess for Python
Description-md5: 3

Package: postman
Section: mail
Provides: mail-agent (= 1), category
Description: Sends mail
Description-md5: 4
""" + "".join(
    f"\nPackage: member{k}\nSection: misc\nProvides: category\nDescription: Member\n"
    for k in range(5)
)
TRANSLATION = """\
Package: app
Description-md5: 1
Description-en: Plays chess games
 Against you,
 or itself.
"""


@pytest.fixture(scope="module")
def graph():
    return load("debian")


@pytest.fixture
def build(monkeypatch):
    spec = importlib.util.spec_from_file_location("debian_build", DEBIAN / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    monkeypatch.setattr(build, "MIN_PACKAGES", 1)
    return build


def test_documented_counts(graph):
    assert (graph.num_nodes, graph.num_edges, graph.num_classes) == (63_436, 2 * 318_327, 58)
    assert (graph.name, graph.source, graph.metric) == ("debian", "debian", "accuracy")
    assert graph.adj.symmetric
    source, target = graph.edge_index
    assert not bool((source == target).any())
    assert (source * graph.num_nodes + target).unique().numel() == graph.num_edges
    degree = graph.adj.indptr.diff()
    assert (int(degree.max()), int((degree == 0).sum())) == (21_814, 1857)
    assert float((graph.y[source] == graph.y[target]).float().mean()) == pytest.approx(
        0.491, abs=5e-4
    )
    split = graph.split()
    assert [int(split[p].sum()) for p in ("train", "val", "test")] == [32_341, 15_198, 15_897]
    assert bool((split.train.int() + split.val.int() + split.test.int() == 1).all())
    assert graph.y[split.train].unique().numel() == 58


def test_numbers_say_nothing_of_the_class(graph):
    """Sources are in random order: far in number, nodes share a class as often as by chance."""
    share = graph.y.bincount() / graph.num_nodes
    far = (graph.y == graph.y.roll(5000)).float().mean()
    assert float(far) == pytest.approx(float(share.square().sum()), abs=0.01)


def test_card_states_date_and_file_is_small():
    card = find_card("debian")
    assert "holds no text" in (DEBIAN / "LICENSE").read_text()
    assert card.data_path.stat().st_size < 3_000_000
    with np.load(card.data_path, allow_pickle=False) as stored:
        about = json.loads(str(stored["about"]))
        assert stored["edge_index"].shape[1] == card.num_edges
    assert about["date"] == "2026-07-11" and "11 July 2026" in card.source
    assert about["classes"] == sorted(about["classes"]) and len(about["classes"]) == 58


def test_build_script_reads_an_index(build):
    packages = build.read_packages(PACKAGES, TRANSLATION)
    nodes, split = build.number_and_split(packages)
    names = [package.name for package in nodes]
    assert sorted(names) == sorted(
        ["app", "libapp1", "python3-app", "postman", *(f"member{k}" for k in range(5))]
    )
    # "gone" is nothing, "category" has six providers, and no package joins itself.
    edges = {tuple(sorted((names[s], names[t]))) for s, t in build.edges_of(nodes).T.tolist()}
    assert edges == {
        ("app", "libapp1"),
        ("app", "python3-app"),
        ("app", "postman"),
        ("postman", "python3-app"),
    }
    # Packages of one source stand side by side and in one set.
    app, library = names.index("app"), names.index("libapp1")
    assert library == app + 1
    assert all(mask[app] == mask[library] for mask in split.values())
    assert (sum(mask.astype(int) for mask in split.values()) == 1).all()
    assert {package.section for package in nodes} == {"games", "libs", "python", "mail", "misc"}


def test_build_script_keeps_words_of_both_descriptions_but_not_the_class(build):
    arrays = build.build(PACKAGES, TRANSLATION, RELEASE)
    about = json.loads(str(arrays["about"]))
    assert (about["date"], "trixie" in about["source"]) == ("2025-08-09", True)
    rows = np.diff(arrays["x_indptr"])
    words = [
        {"plays", "chess", "against", "you", "or", "itself"},  # without "games"
        {"chess", "library"},
        {"chess", "for"},  # of the later version, without "python"
        {"sends"},  # without "mail"
        *[{"member"}] * 5,
    ]
    assert sorted(rows) == sorted(map(len, words))
    assert arrays["x_shape"].tolist() == [9, len(set().union(*words))]
    again = build.build(PACKAGES, TRANSLATION, RELEASE)
    assert all(np.array_equal(again[key], array) for key, array in arrays.items())


def test_build_script_refuses_an_index_that_is_not_the_release(build, tmp_path):
    (tmp_path / "InRelease").write_text(
        f"SHA256:\n {'0' * 64} 10 main/binary-amd64/Packages\n", encoding="utf-8"
    )
    with pytest.raises(ValueError, match="lacks Packages"):
        build.read_index(tmp_path)
    (tmp_path / "Packages").write_text(PACKAGES)
    with pytest.raises(ValueError, match="is not the file that InRelease lists"):
        build.read_index(tmp_path)
