"""The three parts of the fault campaign: kills, bad inputs, flipped bytes."""
