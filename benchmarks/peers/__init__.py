"""Cluster-GCN in other libraries, on the same partition and with the same weights.

Each file holds one library; where it is not installed, its contestants say so.
"""
