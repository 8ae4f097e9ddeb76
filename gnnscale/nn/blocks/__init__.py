"""Models as blocks and phases: what they are, and how they run."""
