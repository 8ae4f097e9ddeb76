"""The parts of the fault campaign: kills, bad inputs, flipped bytes, other runs' files."""
