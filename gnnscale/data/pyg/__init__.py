"""Data sets that PyTorch Geometric reads."""
