"""References: those written by hand must lead somewhere, names in docstrings do if they can."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxRole
from typing_extensions import override

from extension.public_names import public_path

# `Graph`, `gs.partition`, `as_layered`; not `partition`, which may be an argument or a word.
NAMED = re.compile(r"(?:gs\.|nn\.|gnnscale\.)[\w.]+|[A-Z]\w+|\w+_\w+")

API = "reference/api/"  # the pages whose references are made of types and docstrings


class Name(SphinxRole):
    """What stands in backticks: code, and a link where it is a public name."""

    @override
    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        code = nodes.literal(self.rawtext, self.text, classes=["py"])
        path = public_path(self.text) if NAMED.fullmatch(self.text) else None
        if path is None:
            return [code], []
        link = addnodes.pending_xref(
            self.rawtext, code, refdomain="py", reftype="obj", reftarget=path
        )
        link["refdoc"] = self.env.current_document.docname
        return [link], []


def find(app: Any, env: Any, node: Any, contnode: nodes.Node) -> nodes.Node | None:
    """On a page of the API, a link to the public name of what a type names; else its text alone.

    Other packages' names are text: the site is built where there is no network.
    """
    here = env.current_document.docname
    if node.get("refdomain") != "py" or not here.startswith(API):
        return None
    domain, path = env.get_domain("py"), public_path(node["reftarget"])
    found = domain.objects.get(path)
    if found is None:
        return contnode
    uri = app.builder.get_relative_uri(here, found.docname) + f"#{found.node_id}"
    return nodes.reference("", "", contnode, internal=True, refuri=uri, reftitle=path)


def setup(app: Any) -> None:
    """Give docstrings' backticks a role of their own."""
    app.add_role("name", Name())
    app.connect("missing-reference", find)
