"""What others have written is printed as text: nothing in it reaches the terminal as a command."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.shown import shown
from gnnscale.train import Report

EVIL = "[bold red]x[/] [link=http://a]y[/link] \x1b]0;owned\x07\x1b[2J\u202e"
SEEN = "[bold red]x[/] [link=http://a]y[/link] \\x1b]0;owned"


def test_cards(elsewhere, gnnscale, monkeypatch):
    monkeypatch.setenv("GNNSCALE_DATASETS", str(elsewhere))
    text = json.dumps(EVIL)
    (elsewhere / "mine").mkdir()
    (elsewhere / "mine" / "card.toml").write_text(
        "\n".join(f"{field} = {text}" for field in ("title", "split", "licence", "source", "notes"))
        + '\nname = "mine"\ntask = "classification"\nfile = "a.npz"\n'
        "num_nodes = 4\nnum_edges = 3\nnum_features = 1\nnum_classes = 2\n"
        f"[[results]]\nmethod = {text}\nmetric = {text}\nvalue = 0.5\nsource = {text}\n"
    )
    x, y = np.ones((4, 1), np.float32), np.array([0, 1, 0, 1])
    np.savez(elsewhere / "mine" / "a.npz", edge_index=[[0, 1, 2], [1, 2, 3]], x=x, y=y)
    for command in (("info", "mine"), ("datasets",)):
        told = gnnscale(*command).stdout
        assert SEEN[:20] in told
        assert not any(c in told for c in "\x1b\x07\u202e")


def test_reports():
    row = {"epoch": 1, "loss": 0.5, "lr": 0.1, "seconds": 1.0, "nodes_per_second": 1.0}
    report = Report(rows=[{**row, EVIL: 1.0}], final={EVIL: {EVIL: 0.5}}, run={"title": EVIL})
    told = report.table()
    assert "[bold red]x[/]" in told and not any(c in told for c in "\x1b\x07\u202e")


@given(st.text())
def test_all_that_can_be_printed_stays_and_nothing_else(text):
    told = shown(text)
    assert all(c.isprintable() or c in "\n\t" for c in told)
    if all(c.isprintable() or c in "\n\t" for c in text):
        assert told == text
