"""What is made of the structure of compressed rows alone: their order, transpose and selection.

Floors, bytes moved with 32-bit indices: the transpose reads ``indices`` twice and ``indptr`` once
and writes both again (16 bytes an entry, 24 with values, and one random write each).
"""
