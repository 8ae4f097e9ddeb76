"""In what encoding a text is: said by its bytes, or by its words alone, or asked."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.data.tables.table import open_table
from gnnscale.errors import InputError

quick = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
WORDS = {
    "cp1250": "Dvořák Kučera Jiří Wałęsa Łódź Paweł Petrović Kovačić Győr Gdańsk Poznań Černý",
    "cp1251": "Москва Ольга Иван Пётр Казань дом",
    "koi8_r": "Москва Ольга Иван Казань дом",
    "cp1253": "Αθήνα Θεσσαλονίκη Πάτρα",
    "cp1254": "Yıldız İstanbul Eskişehir Ağrı Şahin",  # noqa: RUF001
    "mac_roman": "Müller Köln Straße Málaga crème Genève España Søren São Martínez",
    "shift_jis": "東京 大阪 ソニー 京都",
    "gb18030": "北京 上海 广州 深圳 中",
    "big5": "台北 高雄 臺中",
    "euc_kr": "서울 부산 대구",
    "euc_jp": "東京 大阪",
    "cp1255": "שלום ירושלים",
}
WEST = (  # noqa: SIM905
    "Müller Köln Straße Größe Österreich Käse François crème Genève Molière été où château Noël "
    "naïve août sœur garçon Hélène José Málaga Núñez España año São João Simões coração più però "
    "città perché Søren København Bjørn Tromsø Åse Malmö Jyväskylä Guðrún don’t O’Brien l’été "  # noqa: RUF001
    "Saint-Étienne ÉCOLE Évora Besançon Lübeck Zürich Curaçao Réunion Perú México col·lecció"
).split()
AMBIGUOUS = {"fête": "cp1250", "Gesù": "cp1250", "Põlva": "cp1250", "à": "cp1251"}


def written(path, words: list[str], encoding: str, sep: str = ";") -> None:
    rows = "".join(f"{word}{sep}{i}\n" for i, word in enumerate(words))
    path.write_bytes(f"name{sep}value\n{rows}".encode(encoding))


def names(path, **said: str) -> list[str]:
    batches = open_table(path, "t", **said).batches(["name"])
    return [str(cell) for batch in batches for cell in batch[0].to_pylist()]


@quick
@given(st.sampled_from(sorted(WORDS)), st.sampled_from([",", ";", "\t"]), st.data())
def test_few_words_of_another_encoding_are_asked_about(tmp_path, encoding, sep, data):
    known = st.sampled_from(WORDS[encoding].split())
    words = data.draw(st.lists(known, min_size=1, max_size=4, unique=True))
    plain = data.draw(st.lists(st.sampled_from(["Ann", "Bob"]), max_size=3))
    written(tmp_path / "t.csv", [*words, *plain], encoding, sep)
    assert names(tmp_path / "t.csv", encoding=encoding) == [*words, *plain]
    with pytest.raises(InputError, match=r"is not UTF-8, and .*; say encoding="):
        open_table(tmp_path / "t.csv", "t")


@quick
@given(st.lists(st.sampled_from(WEST), min_size=1, max_size=6, unique=True))
def test_words_of_the_west_are_read_and_the_guess_is_said(tmp_path, words):
    written(tmp_path / "t.csv", words, "cp1252")
    table = open_table(tmp_path / "t.csv", "t")
    assert names(tmp_path / "t.csv") == words
    word = next(word for word in words if not word.isascii())
    said = "Windows-1252" if any("\x7f" < c < "\xa0" for c in _as_latin(words)) else "Latin-1"
    assert f"{said} (as in {word!r}; else say encoding=)" in table.words


def _as_latin(words: list[str]) -> str:
    return "".join(words).encode("cp1252").decode("latin-1")


@pytest.mark.parametrize("word", AMBIGUOUS)
def test_both_readings_of_a_word_are_shown(tmp_path, word):
    written(tmp_path / "t.csv", [word], "latin-1")
    other = word.encode("latin-1").decode(AMBIGUOUS[word])
    message = rf"say encoding='latin-1' \('{word}'\) or encoding='{AMBIGUOUS[word]}' \('{other}'\)"
    with pytest.raises(InputError, match=message):
        open_table(tmp_path / "t.csv", "t")
    assert names(tmp_path / "t.csv", encoding="latin-1") == [word]


@quick
@given(st.sampled_from(["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]))
def test_zeros_beside_ascii_say_the_encoding(tmp_path, encoding):
    (tmp_path / "e.csv").write_bytes("source,target\n1,2\n2,3\n".encode(encoding))
    assert gs.from_edge_list(tmp_path / "e.csv").num_nodes == 3


@pytest.mark.parametrize("encoding", ["latin-1", "cp1251", "gb18030", "mac_roman"])
def test_comments_say_nothing_of_an_encoding(tmp_path, encoding):
    comment = {"cp1251": "наверно", "gb18030": "中"}.get(encoding, "Größe")
    text = f"# {comment}\nsource,target,weight\n1,2,1\xa0234\n2,3,5\n"
    if encoding == "gb18030":
        text = text.replace("\xa0", "")
    (tmp_path / "e.csv").write_bytes(text.encode(encoding))
    said = {"encoding": encoding} if encoding == "mac_roman" else {}
    graph = gs.from_edge_list(tmp_path / "e.csv", undirected=False, **said)
    assert sorted(graph.edge_weight.tolist()) == [5, 1234]


def test_zeros_in_a_text_are_named_with_their_line(tmp_path):
    (tmp_path / "e.csv").write_bytes(b"source,target\n1,2\n2,3\n\0\0\0\0")
    with pytest.raises(InputError, match="line 4 holds a zero byte"):
        gs.from_edge_list(tmp_path / "e.csv")


def test_a_long_cell_is_looked_at_once(tmp_path):
    """Of 200 KB, which a search from each of its characters would not end with."""
    text = f"source,target\n{'a' * 100_000},b\nMüller,{'word ' * 20_000}\n"
    (tmp_path / "e.csv").write_bytes(text.encode("latin-1"))
    assert gs.from_edge_list(tmp_path / "e.csv").num_nodes == 4
