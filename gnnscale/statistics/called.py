"""What the nodes, classes and features of a graph are called in sentences."""

from __future__ import annotations

from dataclasses import dataclass

from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.shown import shown


@dataclass(frozen=True)
class Called:
    """The names that a user knows: of the table, else the numbers before clustering.

    Attributes:
        data: the graph, or its clusters.
    """

    data: Graph | ClusteredGraph

    @property
    def graph(self) -> Graph:
        """The graph itself."""
        return self.data.graph if isinstance(self.data, ClusteredGraph) else self.data

    def node(self, node: int) -> str:
        """A node."""
        if self.graph.names is not None:
            return shown(self.graph.names[node])
        number = int(self.data.node_id[node]) if isinstance(self.data, ClusteredGraph) else node
        return f"{number}"

    def nodes(self, nodes: list[int]) -> str:
        """Several of them."""
        return ", ".join(map(self.node, nodes))

    def klass(self, number: int) -> str:
        """A class, label or target."""
        names = self.graph.class_names
        return f"{number}" if names is None or number >= len(names) else shown(names[number])

    def feature(self, column: int) -> str:
        """A column of the features."""
        names = self.graph.feature_names
        known = names is not None and column < len(names)
        return f"{column} ({shown(names[column])})" if known and names is not None else f"{column}"
