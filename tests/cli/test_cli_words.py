"""What the library says of its arguments, a command says as its options."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.cli import app
from gnnscale.cli.words import Words

ROOT = Path(__file__).parents[2] / "gnnscale"
GROUP = typer.main.get_command(app)
# What Python calls otherwise than an option of the same meaning.
ALSO = {"splits": "split", "recipe": "feature_recipe", "undirected": "directed", "graph": "dataset"}
# Beside what a user of the command line has: functions and layers of one's own.
_CODE = re.compile(r"[\w.]+\([^()]*(?:\([^()]*(?:\([^()]*\)[^()]*)*\)[^()]*)*\)")


def options(command):
    named = [name for one in GROUP.commands[command].params for name in one.opts]
    named += [name for one in GROUP.commands[command].params for name in one.secondary_opts]
    return {name for name in named if name.startswith("--")}


def templates():
    """Every text of the library, with something in the place of what is filled in."""
    for path in sorted(ROOT.rglob("*.py")):
        if path.parent.name == "cli":
            continue
        tree = ast.parse(path.read_text())
        inside = {
            id(part)
            for node in ast.walk(tree)
            for part in (
                node.values
                if isinstance(node, ast.JoinedStr)
                else [node.value]
                if isinstance(node, ast.Expr)
                else []
            )
        }
        for node in ast.walk(tree):
            if id(node) in inside:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[rsd]", "'x'", node.value)
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    part.value
                    if isinstance(part, ast.Constant)
                    else "'x y'"
                    if part.conversion == ord("r")
                    else "7"
                    for part in node.values
                )


def in_python(text, names):
    """The options that are named as Python writes them, outside quotes and code of others."""
    text = re.sub(r"(?<!\w)('[^']*'|\"[^\"]*\"|`[^`]*`)", "", _CODE.sub("", text))
    # What stands behind a question mark or an option, as age=standardise, is no argument.
    text = re.sub(r"--[\w-]+ \S+", "", text)
    return [name for name in names if re.search(rf"(?<![\w.?&/=-]){name}=", text)]


TEXTS = [text for text in templates() if re.search(r"\w=", text)]


@pytest.mark.parametrize("command", sorted(GROUP.commands))
def test_no_message_names_an_option_as_python_does(command):
    words, there = Words(GROUP.commands[command]), options(command)
    names = {name[2:].replace("-", "_") for name in there}
    names |= {python for python, own in ALSO.items() if own in names}
    others = {name for one in GROUP.commands for name in options(one)}
    assert len(TEXTS) > 200
    for text in TEXTS:
        said = words.said(text)
        assert in_python(said, names) == [], said
        alone = re.sub(r"gnnscale (\w+) .*", "", said)  # a command of its own
        new = set(re.findall(r"(?<![\w-])--[a-z-]+", alone)) - set(re.findall(r"--[a-z-]+", text))
        assert new <= there, (text, said)
        assert new <= others


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" ")))
def test_a_value_is_typed_as_the_shell_wants_it(value):
    said = Words(GROUP.commands["import"]).said(f"say labels={value!r}")
    if "'" in value or '"' in value:  # what a quotation holds may look like its end
        return
    assert shlex.split(said) == ["say", "--labels", value]


@given(st.sampled_from(TEXTS), st.sampled_from(sorted(GROUP.commands)))
def test_what_is_said_is_said_once(text, command):
    words = Words(GROUP.commands[command])
    assert words.said(words.said(text)) == words.said(text)


@pytest.mark.parametrize(
    ("command", "python", "said"),
    [
        ("import", "leave the edges out: absent='drop'", "leave the edges out: --absent drop"),
        ("import", "recipe={'a b': 'as is'} or drop='a b'",
         "--feature-recipe 'a b=as is' or --drop 'a b'"),
        ("info", "say header=True or header=False", "say --header yes or --header no"),
        ("info", "say header={'features': False} or sep={'labels': '\t'}",
         "say --header features=no or --sep 'labels=\\t'"),
        ("train", "undirected=False keeps them", "--directed keeps them"),
        ("train", "Take another run_dir, or resume=False to replace it",
         "Take another --run-dir, or --resume no to replace it"),
        ("bench", "Take another run_dir, or resume=False to replace it",
         "Take another --out, or remove that folder to replace it"),
        ("train", "ClusterTrainer(…, num_parts=1, chunk_rows=7)",
         "--trainer cluster --num-parts 1 --chunk-rows 7"),
        ("train", "give TAGCN(…, num_layers=1, K=3)",
         "give --model tagcn --num-layers 1 --model-kwargs K=3"),
        ("predict", "train anew with fit(resume=False)",
         "train anew with gnnscale train … --resume no"),
        ("info", "Say links='ids'", "Say 'PATH?links=ids'"),
        ("predict", "the part (time=2020/a.csv) and 'id=5', gs.nn.register(X, hops=2)",
         "the part (time=2020/a.csv) and 'id=5', gs.nn.register(X, hops=2)"),
        ("train", "load('ogbn-arxiv', download=True) fetches", "--download fetches"),
        ("train", "splits=('fold', {'train': ['0'], 'val': […]})", "--split fold:train=0,val=…"),
    ],
)  # fmt: skip
def test_some_as_they_are_said(command, python, said):
    assert Words(GROUP.commands[command]).said(python) == said


@pytest.fixture
def files():
    rng = np.random.default_rng(0)
    ids = [f"p{i}" for i in range(30)]
    edges = pd.DataFrame({"from": rng.choice(ids, 90), "to": rng.choice(ids, 90)})
    people = pd.DataFrame({"person": ids, "age": rng.normal(size=30), "team": ["a", "b"] * 15})
    edges.to_csv("edges.csv", index=False)
    people.to_csv("people.csv", index=False)
    people[:20].to_csv("few.csv", index=False)
    people.rename(columns={"team": "class"}).to_csv("class.csv", index=False)
    people.assign(other=ids).to_csv("two.csv", index=False)
    people.assign(fold=range(30)).to_csv("fold.csv", index=False)
    people.drop(columns="person").to_csv("unnamed.csv", index=False)
    edges.assign(n=range(5, 95)).to_csv("numbers.csv", index=False)
    edges.assign(a="2020-01-01", b="2021-01-01").to_csv("times.csv", index=False)
    Path("either.csv").write_text("a,b\nc,d\ne,f\n")
    Path("comment.csv").write_text("a,b\n#c,d\ne,f\n" * 3)
    Path("seps.csv").write_text("a;b,c\nd;e,f\n" * 3)
    return edges


@pytest.mark.parametrize("command", ["import", "info", "train", "bench", "partition"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("edges.csv", "few.csv", "--id", "person"), "--absent drop"),
        (("edges.csv", "class.csv"), "--labels 'class'|--labels class"),
        (("edges.csv", "two.csv"), "--id person or --id other"),
        (("edges.csv", "fold.csv", "--labels", "team", "--split", "fold"),
         "--split fold:train=0,val=…,test=…"),
        (("edges.csv", "unnamed.csv"), "--id"),
        (("numbers.csv",), "--weight n"),
        (("either.csv",), "--header yes or --header no"),
        (("edges.csv", "people.csv", "--header", "features=id,age"),
         "--header features=id,age: .* --header features=yes, --header features=no or a name"),
        (("edges.csv", "--labels", "team"), "--labels team is no column"),
        (("edges.csv", "--id", "person"), "NODES"),
        (("edges.csv", "people.csv", "--sep", ";"), "--sep"),
        (("edges.csv", "people.csv", "--encoding", "klingon"), "--encoding klingon"),
        (("edges.csv", "people.csv", "--num-nodes", "9"), "--num-nodes 9"),
        (("edges.csv", "people.csv", "--feature-recipe", "age=round"), ""),
        (("edges.csv", "people.csv", "--labels", "age", "--split", "sixty"), "--split sixty"),
        (("edges.csv", "people.csv", "--split", "time:60/20/20"), "--time"),
        (("times.csv", "people.csv", "--labels", "team", "--split", "time:60/20/20"), "--time"),
    ],
)  # fmt: skip
def test_what_is_refused_is_said_in_the_words_of_the_command(gnnscale, files, command, given, said):
    rest = {"import": ("--out", "g"), "partition": ("--num-parts", "2")}.get(command, ())
    told = gnnscale(command, *given, *rest, code=2).stderr
    assert re.search(said, told), told
    names = {name[2:].replace("-", "_") for name in options(command)} | ALSO.keys()
    assert in_python(told, names) == [], told
    alone = re.sub(r"gnnscale (\w+) .*", "", told)
    assert set(re.findall(r"(?<![\w-])--[a-z-]+", alone)) <= options(command), told


def test_values_of_a_column_split_as_they_are_said(gnnscale, files):
    split = "fold:train=1+2+3,val=7,test=8+9"
    given = ("edges.csv", "fold.csv", "--labels", "team", "--split", split)
    told = gnnscale("import", *given, "--out", "g").stdout
    assert "Next: gnnscale train" in told
    graph = gs.load("./g")
    assert [int(mask.sum()) for mask in (graph.train_mask, graph.val_mask, graph.test_mask)] == [
        3, 1, 2,
    ]  # fmt: skip
    assert graph.train_mask.nonzero().flatten().tolist() == [1, 2, 3]


def test_a_graph_on_disk_is_split_anew(gnnscale, files):
    gnnscale("import", "edges.csv", "people.csv", "--labels", "team", "--out", "g")
    told = gnnscale("train", "-d", "./g", code=2).stderr
    assert "no training nodes: --split 60/20/20 draws them" in told
    quick = ("--epochs", "1", "--num-parts", "2", "--hidden-channels", "4", "--no-baselines")
    gnnscale("train", "-d", "./g", "--split", "60/20/20", "--run-dir", "r", *quick)
    assert "test" in gnnscale("evaluate", "r").stdout
    graph = gs.load("./g?split=60/20/20&seed=3")
    assert [int(mask.sum()) for mask in (graph.train_mask, graph.val_mask, graph.test_mask)] == [
        18, 6, 6,
    ]  # fmt: skip
    gnnscale("partition", "-d", "./g", "--num-parts", "2", "--out", "s")
    assert "gnnscale partition --dataset" in gnnscale("train", "-d", "./s", code=2).stderr
    gnnscale("partition", "-d", "./g", "--num-parts", "2", "--out", "s", "--split", "60/20/20")
    gnnscale("train", "-d", "./s", "--run-dir", "r2", *quick)
