"""Who evaluates: full graph, per graph."""
