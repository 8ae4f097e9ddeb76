"""What README and docs show: code and commands run, links lead somewhere, messages are real.

A block that is not run has a mark before it that says why, `<!-- not run: two hosts -->`; code is
compiled all the same, and its `gs.` names must exist; commands are parsed. Output that is shown
(`text`) is in blocks of another kind. The scripts of the gallery have tests of their own.
"""

from __future__ import annotations

import ast
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("C*.md")])
STORY = ROOT / "docs/guide/own_files.md"
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<mark>[^\n]+) -->\n+)?```(?P<kind>\w+)\n(?P<text>.*?)^```", re.M | re.S
)
ELSEWHERE = ("rsync", "export", "pip", "git", "cd", "source")  # programs that are not ours to check
WORDNET = "synthetic:planted?nodes=1000"  # in place of it


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


class Block(NamedTuple):
    """A fenced block; `mark` says why it is not run."""

    kind: str
    text: str
    mark: str | None


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text())
    return [Block(block["kind"], block["text"], block["mark"]) for block in found]


def commands(page: Path) -> Iterator[list[str]]:
    """Shell commands of a page as words, in blocks and in running text."""
    yield from commands_in("\n".join(b.text for b in blocks(page) if b.kind in ("sh", "bash")))
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    ours = [code for code in inline if re.match(r"(gnnscale|torchrun|make) [\w-]", code)]
    yield from commands_in("\n".join(ours))


def commands_in(shell: str) -> Iterator[list[str]]:
    """The commands of a shell script as words, without variables set for them."""
    for line in shell.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        if words and not {"…", "..."} & set("".join(words)):
            yield words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_those_of_the_command_line(page: Path) -> None:
    for words in commands(page):
        parse(words)


def parser_of_torchrun() -> Any:
    from torch.distributed.run import get_args_parser

    return get_args_parser()


def parse(words: list[str]) -> None:
    """Raise an error where a command would be refused."""
    program, *arguments = words
    if program == "gnnscale":
        import typer

        from gnnscale.cli import app

        group: Any = typer.main.get_command(app)
        if arguments and not arguments[0].startswith("-") and arguments[1:] != ["--help"]:
            group.commands[arguments[0]].make_context(arguments[0], arguments[1:])
    elif program == "torchrun":
        arguments += (
            [] if arguments[-1].endswith(".py") else ["train.py"]
        )  # options alone, in prose
        parser_of_torchrun().parse_args(arguments)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {word for word in arguments if "=" not in word} <= set(targets), words
    elif program == "python" and arguments[0] != "-m":
        assert (ROOT / arguments[0]).exists(), words
    else:
        assert program in (*ELSEWHERE, "python"), words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_in_code_exist(page: Path) -> None:
    import gnnscale

    for block in blocks(page):
        if block.kind != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.value.id != "gs" or hasattr(gnnscale, node.attr), node.attr


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "benchmarks/README.md", ROOT / "datasets/README.md"], ids=name_of
)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


def anchors(page: Path) -> set[str]:
    """What headings are called in links, as hosts of repositories call them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def test_scripts_named_beside_figures_exist_and_have_their_options() -> None:
    text = (ROOT / "benchmarks/README.md").read_text()
    source = "\n".join(path.read_text() for path in (ROOT / "benchmarks").rglob("*.py"))
    quoted = set(re.findall(r'"(?:--)?([\w-]+)"', source))
    for code in re.findall(r"`([\w/]+\.py(?: [^`]+)?)`", text):
        script, *arguments = code.split()
        assert any((ROOT / folder / script).exists() for folder in ("", "benchmarks")), code
        for word in arguments:
            assert not word.startswith("--") or word[2:] in quoted, code


def test_public_names_have_docstrings() -> None:
    """`make docs` asks the same; here it is found sooner."""
    names = runpy.run_path(str(ROOT / "docs/extension/public_names.py"))
    assert not list(names["undocumented"]())


def test_gallery_is_of_the_examples() -> None:
    gallery = runpy.run_path(str(ROOT / "docs/extension/gallery.py"))
    scripts = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert scripts == set(gallery["EXAMPLES"])
    behind = [name for name in scripts if gallery["stale"](name)]
    assert not behind, f"make gallery: {behind}"


def test_messages_of_the_troubleshooting_page_are_in_the_source() -> None:
    page = (ROOT / "docs/reference/troubleshooting.md").read_text()
    source = "\0".join(text for path in (ROOT / "gnnscale").rglob("*.py") for text in texts(path))
    quoted = re.findall(r"^> (.+)$", page, re.M)
    assert len(quoted) > 20
    for message in quoted:
        for part in filter(None, message.split("…")):
            assert part in source, message


def texts(path: Path) -> Iterator[str]:
    """The texts of a module; what an f-string puts in is not there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [page for page in PAGES if page != STORY], ids=name_of)
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one namespace and folder a page, on a small graph in place of those that are large."""
    import gnnscale

    load = gnnscale.load

    def small(source: Any, **options: Any) -> Any:
        return load(WORDNET if source == "wordnet" else source, **options)

    monkeypatch.setattr(gnnscale, "load", small)
    run_blocks(page, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_outputs_of_the_story_are_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but their figures, which are another machine's, and spaces."""
    said = run_blocks(STORY, tmp_path, monkeypatch)
    said += [line for path in tmp_path.glob("*.csv") for line in path.read_text().splitlines()]
    there = {without_figures(line) for line in said}
    shown = [b.text for b in blocks(STORY) if b.kind == "text"]
    assert len(shown) > 5
    for line in "".join(shown).splitlines():
        assert without_figures(line) in there, line


def without_figures(line: str) -> str:
    return re.sub(r"[\d.,]+(e-\d+)?", "#", " ".join(line.split()))


def run_blocks(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run what a page has, in its order; the lines that its commands print."""
    monkeypatch.chdir(folder)
    said: list[str] = []
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.mark is not None:
            continue
        if block.kind == "python":
            text = block.text.replace("rounds=200", "rounds=2")  # learning takes minutes
            exec(compile(text, str(page), "exec"), names)
        elif block.kind in ("sh", "bash"):
            for words in commands_in(block.text):
                said += run(words).splitlines()
    return said


def run(words: list[str]) -> str:
    """Run a command, on the small graph; what it prints."""
    from typer.testing import CliRunner

    from gnnscale.cli import app

    program, *arguments = words
    assert program == "gnnscale", f"a block with {program} is not run: mark it and say why"
    small = [WORDNET if word == "wordnet" else word for word in arguments]
    done = CliRunner().invoke(app, small)
    assert done.exit_code == 0, f"{words}: {done.output}"
    return done.output
