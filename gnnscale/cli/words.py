"""Messages in the words of the command line: `absent='drop'` is `--absent drop` there.

The library says to everyone how its arguments are written in Python. What a command tells passes
through here once, whoever wrote it: an argument that is an option of the command is written as that
option, one that a data set takes as `'PATH?name=value'`, a call of ours as the command for it.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from typing import Any, get_args

from gnnscale.cli.options import DECLARED, Model

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_QUOTES = "'\"`"
# What an argument of Python is called on the command line, where that is another word.
_CALLED = {
    "splits": ["split"],
    "recipe": ["feature_recipe"],
    "undirected": ["directed"],
    "graph": ["dataset"],
    "id_column": ["id"],
    "path": ["out"],
    "run_dir": ["out"],
}
# What none of a command's options says, and what does.
_ELSEWHERE = {
    "features": "NODES",
    "nodes": "NODES",
    "edges": "EDGES",
    "path": "gnnscale import … --out FOLDER",
    "cache": "another GNNSCALE_CACHE",
    "resume": "remove that folder",
    "run_dir": "folder",
}
_COMMANDS = {
    "cluster": "gnnscale partition --dataset NAME|PATH --num-parts N --out FOLDER",
    "from_edge_list": "gnnscale import EDGES NODES --out FOLDER",
    "build_graph": "gnnscale import EDGES NODES --out FOLDER",
    "partition": "gnnscale partition --dataset NAME|PATH --num-parts N --save FILE.npz",
}
_TRAINERS = {
    f"{kind.title()}Trainer": kind for kind in ("cluster", "layerwise", "graph", "pipeline")
}
_MODELS = {kind.replace("_", ""): kind for kind in get_args(Model)} | {"graphsage": "sage"}
_OURS = {"load", "load_run", "fit", *_COMMANDS, *_TRAINERS}
_ANEW = "gnnscale train … --resume no"
_OPTION = re.compile(r"--[\w-]+(?: [^\s-]\S*)?")
_CALL = re.compile(r"[A-Za-z_][\w.]*\(")
_KEYWORD = re.compile(r"[A-Za-z_]\w*=(?!=)")
_WORD = re.compile(r"[\w./?&-]+")
_BARE = re.compile(r"[^\s,;:()\[\]{}]*?(?=[.]?(?:[\s,;:()\[\]{}]|$))")


class Words:
    """How the arguments of Python are said to a command.

    Args:
        command: a command of typer's.
    """

    def __init__(self, command: Any) -> None:
        named = {_long(one): one for one in command.params}
        self._options = {name[2:].replace("-", "_"): one for name, one in named.items() if name}
        self._opens_data = "" in named or "dataset" in self._options

    def said(self, text: str) -> str:
        """A message in the words of the command."""
        return "".join(self._pieces(text.replace("root= or ", "")))  # a folder named by a variable

    def _pieces(self, text: str) -> Iterator[str]:
        at = 0
        while at < len(text):
            before = text[at - 1] if at else " "
            begins = not (before.isalnum() or before in "_./?&-=")
            if begins and text[at] in _QUOTES and (end := _quoted(text, at)):
                yield text[at:end]
            elif begins and (match := _OPTION.match(text, at)):
                yield match[0]
                end = match.end()
            elif begins and (match := _CALL.match(text, at)):
                end = _closed(text, match.end() - 1)
                name = match[0][:-1].rpartition(".")[2]
                yield self._call(name, text[match.end() : end - 1]) or text[at:end]
                while name in _COMMANDS and (chained := re.compile(r"\.\w+\(").match(text, end)):
                    end = _closed(text, chained.end() - 1)
            elif begins and (match := _KEYWORD.match(text, at)):
                end = _value_end(text, match.end())
                own = text[match.end() : end]
                yield self._argument(match[0][:-1], own) or match[0] + self.said(own)
            elif match := _WORD.match(text, at):
                end = match.end()
                listed = text[max(0, at - 2) : at] == ", "  # of what is no option here, as K=V
                yield match[0] if listed else self._word(match[0])
            else:
                end = at + 1
                yield text[at]
            at = end

    def _word(self, word: str) -> str:
        """An argument of training that is named alone, as run_dir."""
        bare = word.rstrip(".")
        if bare == "run_dir" or ("_" in bare and bare in DECLARED):
            return (self._argument(bare, "") or bare) + word[len(bare) :]
        return word

    def _call(self, name: str, inside: str) -> str | None:
        """A call of ours as options, or as the command for it; None for code of others."""
        if name in _COMMANDS:
            return _COMMANDS[name]
        model = _MODELS.get(name.lower())
        if name == "fit" and "resume" not in self._options:
            return _ANEW
        if name not in _OURS and (model is None or "model" not in self._options):
            return None
        said, further = [], []
        if name in _TRAINERS and "trainer" in self._options:
            said.append(f"--trainer {_TRAINERS[name]}")
        if model is not None:
            said.append(f"--model {model}")
        for one in _arguments(inside):
            if match := _KEYWORD.match(one):
                keyword, value = match[0][:-1], one[match.end() :]
                known = self._argument(keyword, value)
                if known is None and model is not None:
                    further.append(f"{keyword}={_text(_read(value))}")
                elif known is None:
                    return None
                else:
                    said.append(known)
        if further:
            said.append(f"--model-kwargs {','.join(further)}")
        return " ".join(said) or None

    def _argument(self, name: str, value: str) -> str | None:
        """An argument of this value as the command line has it; None where it has none."""
        if loaded := re.fullmatch(r"[\w.]+\((['\"].*['\"])\)", value):
            value = loaded[1]  # what a data set is loaded by is its name here
        if "/" in value and value[:1] not in (*_QUOTES, *_CLOSING):
            return None  # a folder of part files, as year=2020/part-0.csv
        for own in (name, *_CALLED.get(name, ())):
            if own in self._options:
                return self._option(own, name, value)
        if self._opens_data and name in _of_data_sets() and value:
            return f"'PATH?{name}={_text(_read(value), quoted=False)}'"
        return _ELSEWHERE.get(name)

    def _option(self, name: str, argument: str, value: str) -> str:
        option, given = self._options[name], _read(value)
        if argument == "undirected" and isinstance(given, bool):
            given = not given
        if isinstance(given, bool) and getattr(option, "is_flag", False):
            if given:
                return self._written(name)
            return next(iter(option.secondary_opts), f"without {self._written(name)}")
        given = _truth(given)
        if isinstance(given, dict) and name == "header":
            given = {t: _truth(own) for t, own in given.items()}
        written = self._written(name)
        if not value:
            return written
        if isinstance(given, dict | tuple) and name == "split":
            return f"{written} {_split(given)}"
        return f"{written} {_text(given)}"

    def _written(self, name: str) -> str:
        return _long(self._options[name])


def _long(parameter: Any) -> str:
    """The name of an option in full; empty for an argument, which has its place."""
    return next((name for name in parameter.opts if name.startswith("--")), "")


@functools.cache
def _of_data_sets() -> frozenset[str]:
    """What may stand behind the question mark of a path."""
    from gnnscale.data.formats.registry import list_formats

    found = {"format", "data", "task", "num_classes", "metric"}
    return frozenset(found.union(*(made.options or () for made in list_formats())))


def _quoted(text: str, at: int) -> int:
    """Where a quotation ends that begins here; 0 where it is none, but an apostrophe."""
    end = text.find(text[at], at + 1)
    while 0 < end < len(text) - 1 and text[end + 1].isalnum():
        end = text.find(text[at], end + 1)
    return end + 1


def _closed(text: str, at: int) -> int:
    """Behind the bracket that closes the one here; the end of the text where none does."""
    open_now, end = [_CLOSING[text[at]]], at + 1
    while end < len(text) and open_now:
        character = text[end]
        if character in _QUOTES and (behind := _quoted(text, end)):
            end = behind
            continue
        if character in _CLOSING:
            open_now.append(_CLOSING[character])
        elif character == open_now[-1]:
            open_now.pop()
        end += 1
    return end


def _value_end(text: str, at: int) -> int:
    """Where the value of an argument ends that begins here."""
    if at < len(text) and text[at] in "'\"":
        return _quoted(text, at) or at
    if at < len(text) and text[at] in _CLOSING:
        return _closed(text, at)
    match = _BARE.match(text, at)
    end = match.end() if match else at
    return _closed(text, end) if at < end < len(text) and text[end] == "(" else end  # a call


def _arguments(inside: str) -> Iterator[str]:
    """The arguments of a call, one by one."""
    start = at = 0
    while at < len(inside):
        if inside[at] in _CLOSING:
            at = _closed(inside, at)
        elif inside[at] in "'\"" and (end := _quoted(inside, at)):
            at = end
        elif inside[at] == ",":
            yield inside[start:at].strip()
            start = at = at + 1
        else:
            at += 1
    yield inside[start:].strip()


def _read(value: str) -> Any:
    """What a value means that is written as in Python; text where it is not."""
    try:
        return ast.literal_eval(re.sub(r"(?<=[\[({:, ])…(?=[\])},])", "'…'", value))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # of any text
        return value


def _text(value: Any, quoted: bool = True) -> str:
    """A value as it is typed behind an option."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        pairs = (f"{key}={_text(one, quoted=False)}" for key, one in value.items())
        return _text(",".join(pairs), quoted)
    if isinstance(value, list | tuple):
        return _text(",".join(_text(one, quoted=False) for one in value), quoted)
    text = str(value).replace("\t", "\\t")
    if quoted and (not text or re.search(r"[^\w@%+=:,./…-]", text)):
        return "'" + text.replace("'", "'\\''") + "'"
    return text


def _truth(value: Any) -> Any:
    """True and False in words; other values as they are."""
    return ("no", "yes")[value] if isinstance(value, bool) else value


def _split(value: Any) -> str:
    """Training, validation and test nodes by the values of a column, as `--split` takes them."""
    if not isinstance(value, tuple) or not isinstance(value[-1], dict):
        return "60/20/20"
    column, parts = value
    texts = (
        f"{name}={'+'.join(map(str, one)) if isinstance(one, list) else one}"
        for name, one in parts.items()
    )
    return _text(f"{column}:{','.join(texts)}")
