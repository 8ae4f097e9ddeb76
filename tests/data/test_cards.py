from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gnnscale.data import find_card, find_data, list_cards, load, read_card
from gnnscale.errors import InputError, StoreError
from gnnscale.nn import MODELS
from tests.data.small_data_sets import CARD, SHARED, write_data_set


def test_root_comes_before_the_variable_before_the_repository(tmp_path, monkeypatch):
    first = write_data_set(tmp_path / "first", "wordnet")
    second = write_data_set(tmp_path / "second", "wordnet")
    shipped = find_card("wordnet")
    assert shipped.num_nodes == 117_659
    monkeypatch.setenv("GNNSCALE_DATASETS", str(tmp_path / "second"))
    assert find_card("wordnet").path.parent == second
    assert find_card("wordnet", tmp_path / "first").path.parent == first


def test_a_root_without_the_data_set_is_passed_over(tmp_path):
    write_data_set(tmp_path, "mine")
    assert find_card("wordnet", tmp_path).num_nodes == 117_659
    assert {"mine", "wordnet"} <= {card.name for card in list_cards(tmp_path)}
    assert "mine" not in {card.name for card in list_cards()}


def test_the_working_directory_is_never_searched(tmp_path, monkeypatch):
    write_data_set(tmp_path, "here")
    write_data_set(tmp_path / "datasets", "there")
    monkeypatch.chdir(tmp_path)
    assert find_card("here") is None
    assert find_card("there") is None
    with pytest.raises(InputError, match=r"write './here' to load it"):
        load("here")
    assert load("./here").name == "here"


def test_the_copy_inside_the_package_is_searched_last(tmp_path):
    """In an installed package there is no repository beside it."""
    package = tmp_path / "site" / "gnnscale"
    here = Path(__file__).resolve().parents[2] / "gnnscale"
    (package / "data").mkdir(parents=True)
    for name in ("errors.py", "data/cards.py", "data/recipes.py", "data/__init__.py"):
        (package / name).write_bytes((here / name).read_bytes())
    (package / "__init__.py").touch()
    write_data_set(package / "_datasets", "inside")
    (tmp_path / "site" / "datasets").mkdir()  # Hugging Face's package, say
    script = (
        "import sys; from gnnscale.data import list_cards; "
        "print([card.name for card in list_cards()], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['inside'] False"


def test_a_missing_root_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"root=.* is not a folder"):
        find_card("wordnet", tmp_path / "no")
    monkeypatch.setenv("GNNSCALE_DATASETS", str(tmp_path / "no"))
    with pytest.raises(InputError, match=r"GNNSCALE_DATASETS=.* is not a folder"):
        list_cards()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("num_nodes = 4\n", "", "field 'num_nodes' is missing"),
        ("num_nodes = 4", "num_nodes = '4'", "field 'num_nodes' is '4'; it must be of type int"),
        ("num_nodes = 4", "num_nodes = true", "field 'num_nodes' is True; it must be of type int"),
        ("num_nodes = 4", "num_nodes = -4", "field 'num_nodes' is -4; it must not be negative"),
        ("licence =", "license =", "unknown field 'license'; did you mean 'licence'"),
        ('"classification"', '"guess"', "field 'task' is 'guess'; it must be one of"),
        ('"row-normalise"', '"polish"', "field 'preprocessing' has the unknown step 'polish'"),
        ('["row-normalise"]', '"tf-idf"', "field 'preprocessing' is 'tf-idf'; it must be a list"),
        ('name = "{name}"', 'name = "other"', "field 'name' is 'other', but its folder is 'mine'"),
        ("source =", "results = 3\nsource =", "field 'results' must be tables"),
        (
            "source =",
            "results = [{{method = 'm'}}]\nsource =",
            "'results', entry 1: 'metric' is missing",
        ),
        ("source =", "preset = 3\nsource =", "field 'preset' is 3; it must be a table"),
        ("title =", "title", "is not valid TOML"),
    ],
)
def test_a_malformed_card_names_file_and_field(tmp_path, old, new, fault):
    assert old in CARD
    folder = write_data_set(tmp_path, "mine", CARD.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_card(folder / "card.toml")
    assert fault in str(caught.value)
    assert str(folder / "card.toml") in str(caught.value)


def test_all_faults_of_a_card_are_told_at_once(tmp_path):
    folder = write_data_set(tmp_path, "mine", 'name = "mine"\ntask = "guess"\n')
    with pytest.raises(InputError) as caught:
        read_card(folder / "card.toml")
    assert len(caught.value.faults) == 9


def test_a_missing_card_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match=r"card\.toml"):
        read_card(tmp_path / "card.toml")


def test_a_card_that_contradicts_its_data_is_refused(tmp_path):
    card = CARD.replace("num_nodes = 4", "num_nodes = 5").replace(
        "num_classes = 2", "num_classes = 3"
    )
    write_data_set(tmp_path, "mine", card)
    with pytest.raises(InputError, match=r"field 'num_nodes' is 5, but .* has 4"):
        load("mine", root=tmp_path)


def test_data_that_are_not_shipped_are_found_in_every_root(tmp_path, monkeypatch):
    folder = write_data_set(tmp_path / "cards", "mine")
    wanted = load("mine", root=tmp_path / "cards")
    (tmp_path / "data" / "mine").mkdir(parents=True)
    file = (folder / "graph.npz").rename(tmp_path / "elsewhere.npz")
    given = load(folder, data=file)
    assert given.fingerprint() == wanted.fingerprint() == load(given.source).fingerprint()
    monkeypatch.setenv("GNNSCALE_DATASETS", str(tmp_path / "cards"))
    card = find_card("mine")
    for place in ("mine.npz", "mine/graph.npz"):
        assert find_data(card) is None
        file = file.rename(tmp_path / "data" / place)
        assert find_data(card, tmp_path / "data") == file
        found = load("mine", root=tmp_path / "data")
        assert found.fingerprint() == load(found.source).fingerprint() == wanted.fingerprint()
        assert load(found.source).source == found.source
    monkeypatch.setenv("GNNSCALE_DATASETS", str(tmp_path / "data"))
    assert load(folder).fingerprint() == wanted.fingerprint()


def test_a_card_without_its_data_says_where_they_come_from(tmp_path):
    (write_data_set(tmp_path, "mine") / "graph.npz").unlink()
    with pytest.raises(StoreError) as caught:
        load("mine", root=tmp_path)
    for word in ("not shipped", "come from by hand", "mine.npz", "GNNSCALE_DATASETS", "from_data"):
        assert word in str(caught.value)


def test_the_default_split_of_a_card(tmp_path):
    card = CARD.replace("split =", 'default_split = "50/25/25"\nsplit =', 1)
    write_data_set(tmp_path, "mine", card)
    drawn = load("mine", root=tmp_path)
    assert [int(drawn.split()[part].sum()) for part in ("train", "val", "test")] == [2, 1, 1]
    again = load("mine", root=tmp_path, split="50/25/25", seed=0)
    assert drawn.fingerprint() == again.fingerprint()
    assert load("mine", root=tmp_path, split="default").train_mask.tolist() == [1, 1, 0, 0]


def test_cards_of_data_that_are_not_shipped():
    """Every card can be read, its preset can be built, and no data slipped in beside it."""
    shipped = {"wordnet", "debian"}
    cards = {card.name: card for card in list_cards()}
    assert {"cora", "citeseer", "coauthor_cs", "amazon_computers"} <= cards.keys()
    assert {"facebook_pages", "tolokers", "twitch7"} <= cards.keys()
    for name, card in cards.items():
        assert (find_data(card) is not None) == (name in shipped)
        assert name in shipped or list(card.path.parent.iterdir()) == [card.path]
        if card.preset:
            assert card.preset["model"] in MODELS and card.num_nodes >= card.preset["num_parts"]
        assert card.default_split == (
            "60/20/20" if card.split.startswith("random 60/20/20") else None
        )


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared folder of real graphs")
def test_cards_and_real_data_agree(monkeypatch):
    monkeypatch.setenv("GNNSCALE_DATASETS", str(SHARED))
    sizes = {}
    for card in list_cards():
        if find_data(card) is None or card.path.parent.joinpath(card.file).exists():
            continue
        graph = load(card.name)  # refuses other counts of nodes, features and classes
        assert graph.num_edges == 2 * card.num_edges
        split = graph.split()
        sizes[card.name] = [int(split[part].sum()) for part in ("train", "val", "test")]
    assert sizes["cora"] == [140, 500, 1000]
    assert sizes["coauthor_cs"] == [10_999, 3667, 3667]
    assert sizes["twitch7"] == [9498, 7126, 20_266]
    assert sizes["tolokers"] == [5879, 2939, 2940]
