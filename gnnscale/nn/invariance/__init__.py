"""Whether a layer may be run in pieces: found out by changing what must not matter."""
