"""A run: its folder, checkpoints, report, callbacks, and what it may take."""
