"""The parts of `oracles.py`: which layers, on which graphs, in which ways."""
