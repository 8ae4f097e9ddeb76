"""Files as people have them, given to commands: the same graph from each, by its own ids."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gnnscale as gs
from gnnscale.train import load_run

TOLD = ("--labels", "team", "--split", "60/20/20")
QUICK = ("--epochs", "1", "--num-parts", "2", "--hidden-channels", "4", "--no-baselines")


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    ids = [f"p{i}" for i in rng.permutation(60)]
    edges = pd.DataFrame({"from": rng.choice(ids, 150), "to": rng.choice(ids, 150)})
    people = pd.DataFrame({"person": ids, "age": rng.normal(size=60)})
    people["city"] = rng.choice(["x", "y"], 60)
    people["team"] = rng.choice(["red", "blue"], 60)
    edges.to_parquet("edges.parquet", index=False)
    people.to_csv("people.csv", index=False)
    return people


def test_the_whole_story(gnnscale, tables):
    told = gnnscale("import", "edges.parquet", "people.csv", *TOLD, "--out", "g").stdout
    for line in ("`person`: node id (unique text)", "`team`: label", "train --dataset ./g"):
        assert line in told
    graph = gs.load("./g")
    assert graph.class_names == ("blue", "red")
    assert graph.names[:].tolist() == tables["person"].tolist()
    assert (
        gs.load("./g").fingerprint()
        == gs.from_edge_list("edges.parquet", "people.csv", "team", splits="60/20/20").fingerprint()
    )
    gnnscale("train", "--dataset", "./g", "--run-dir", "stored", *QUICK)
    gnnscale("train", "edges.parquet", "people.csv", *TOLD, "--run-dir", "straight", *QUICK)
    tables_written = []
    for run in ("stored", "straight"):
        gnnscale("predict", run, "--out", f"{run}.csv")
        tables_written.append(pd.read_csv(f"{run}.csv"))
    pd.testing.assert_frame_equal(*tables_written)
    assert tables_written[0]["id"].tolist() == tables["person"].tolist()
    assert set(tables_written[0]["prediction"]) <= {"blue", "red"}
    Path("some.txt").write_text("p7\np3\n")
    gnnscale("predict", "straight", "--out", "some.parquet", "--nodes", "some.txt")
    some = pd.read_parquet("some.parquet").set_index("id")
    assert some.index.tolist() == ["p7", "p3"]
    whole = tables_written[0].set_index("id").loc[["p7", "p3"]]
    np.testing.assert_allclose(some["probability_red"], whole["probability_red"], rtol=1e-4)
    told = gnnscale("evaluate", "stored", "--by-class").stdout
    assert "blue" in told and "precision" in told


def test_files_stand_for_a_data_set_in_every_command(gnnscale, tables):
    assert "60 nodes" in gnnscale("partition", "edges.parquet", "people.csv", "--num-parts", "2",
                                  "--labels", "team").stdout  # fmt: skip
    assert "2 classes" in gnnscale("info", "edges.parquet", "people.csv", *TOLD).stdout
    told = gnnscale("bench", "edges.parquet", "people.csv", *TOLD, "--runs", "1", *QUICK[:-1])
    assert "Final Test" in told.stdout
    run = load_run("runs/bench-edges-sage/seed-0")
    os.chdir("runs")  # what the files are called says where they are
    assert run.graph.names[:].tolist() == tables["person"].tolist()


def test_what_training_lacks_is_said_at_the_import(gnnscale, tables):
    told = gnnscale("import", "edges.parquet", "people.csv", "--out", "a").stdout
    assert "No labels" in told and "train --dataset" not in told
    told = gnnscale("import", "edges.parquet", "people.csv", *TOLD[:2], "--out", "b").stdout
    assert "--split 60/20/20" in told and "train --dataset" not in told


def test_a_name_and_why_nothing_was_learned_are_said(gnnscale, tables):
    tables.assign(age=1900.0).to_csv("people.csv", index=False)
    told = gnnscale("import", "edges.parquet", "people.csv", *TOLD, "--out", "g")
    assert "standardised, being up to 1,900" in told.stdout.replace("\n", " ")
    said = (*TOLD, "--feature-recipe", "age=as is")
    told = gnnscale("import", "edges.parquet", "people.csv", *said, "--out", "g", "--name", "us")
    assert "Graph(us" in told.stdout and gs.load("./g").name == "us"
    told = gnnscale("train", "-d", "./g", "--run-dir", "r", "--lr", "1e-9", *QUICK[:-1])
    assert "feature 'age' reaches 1,900" in told.stdout
    assert "--feature-recipe age=standardise" in told.stdout


def test_part_files_and_what_is_said_of_them(gnnscale, tables):
    edges = pd.read_parquet("edges.parquet")
    Path("parts").mkdir()
    for i, half in enumerate((edges[:70], edges[70:])):
        half.assign(w=1.5).to_csv(f"parts/e{i}.csv", index=False, sep=";")
    said = ("--source", "from", "--target", "to", "--weight", "w", "--feature-recipe", "age=drop")
    for given in ("parts", "./parts", "parts/*.csv"):
        gnnscale("import", given, "people.csv", *TOLD, *said, "--directed", "--out", "g")
        graph = gs.load("./g")
        assert graph.num_edges == 150 and graph.edge_weight.unique().tolist() == [1.5]
        assert graph.feature_names == ("city=x", "city=y")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("train", "edges.parquet", "-d", "wordnet"), "not both"),
        (("train",), "give --dataset NAME|PATH, or files"),
        (("info", "edges.parquet", "people.csv", "more.csv"), "--labels FILE"),
        (("info", "wordnet", "--labels", "y"), "--labels is of tables in files"),
        (("import", "nothing.csv", "--labels", "y", "--out", "g"), "no such file"),
        (("import", "edges.parquet", "people.csv", "--labels", "nix", "--out", "g"), "nix"),
        (
            ("import", "edges.parquet", "people.csv", "--id", "age", "--out", "g"),
            "150 of 150 edges",
        ),
    ],
)
def test_what_cannot_be_is_said(gnnscale, tables, command, told):
    done = gnnscale(*command, code=2)
    assert told in done.stderr and "Traceback" not in done.stderr


def test_a_run_says_which_of_its_files_has_changed_and_what_to_do(gnnscale, tables):
    told = (*TOLD, "--feature-recipe", "age=standardise")
    gnnscale("train", "edges.parquet", "people.csv", *told, "--run-dir", "r", *QUICK)
    gnnscale("predict", "r", "--out", "before.csv")
    was = Path("people.csv").read_bytes()
    tables.assign(age=tables["age"] + np.arange(60)).to_csv("people.csv", index=False)
    for command in (("predict", "r", "--out", "p.csv"), ("evaluate", "r")):
        error = gnnscale(*command, code=2).stderr
        assert "people.csv was written again" in error and "edges.parquet was" not in error
        assert "Put that back as it was" in error
        (way,) = re.findall("pass --dataset (.*)", error)
        assert gnnscale(*command, "--dataset", *shlex.split(way)).stdout
    ages = pd.read_csv("p.csv"), pd.read_csv("before.csv")
    assert not np.allclose(*(table["probability_red"] for table in ages))  # by May's mean age
    Path("people.csv").write_bytes(was)
    gnnscale("evaluate", "r")
    os.utime("people.csv", (0, 0))  # written again, with the same in it
    gnnscale("evaluate", "r")
    Path("people.csv").unlink()
    error = gnnscale("evaluate", "r", code=2).stderr
    assert "people.csv is gone" in error and "pass --dataset" in error


def test_a_split_without_some_part_says_what_there_is(gnnscale, tables):
    told = ("edges.parquet", "people.csv", "--labels", "team", "--split", "100/0/0")
    gnnscale("train", *told, "--run-dir", "r", *QUICK)
    assert "--on all evaluates what it has: train" in gnnscale("evaluate", "r", code=2).stderr
    assert "train" in gnnscale("evaluate", "r", "--on", "all").stdout
    assert "--split 60/20/20" in gnnscale("bench", *told, *QUICK[:-1], code=2).stderr
    assert "EDGES NODES" in gnnscale("bench", "edges.parquet", code=2).stderr


def test_a_list_of_snap_with_a_table_of_nodes(gnnscale, tables):
    edges = pd.read_parquet("edges.parquet")
    head = "# Directed graph: mine\n# FromNodeId\tToNodeId\n"
    Path("snap.txt").write_text(head + edges.to_csv(sep="\t", index=False, header=False))
    told = (*TOLD, "--drop", "city,age", "--sep", "\\t")
    gnnscale("import", "snap.txt", "people.csv", *told, "--out", "g")
    graph = gs.load("./g")
    assert graph.class_names == ("blue", "red") and graph.x is None
    assert int(graph.train_mask.sum()) == 36 and graph.num_edges == 150
