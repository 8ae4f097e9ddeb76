"""What work costs, in operations, bytes and seconds: measured and counted here, and read above.

- `passes`: what a pass over a batch, a piece or some graphs takes in memory, and how it grows, on
  small graphs; from `peak` (bytes allocated, counted).
- `convolutions`: what an opaque convolution takes on a piece of a graph.
- `clusters`, `graphs`: how many a batch may have within a bound.
- `inference`: what of an exact inference may be in memory at a time.
- `seconds`: how long every block of a model takes.
- `sizes`: operations of a pass; what is chosen by sizes alone.
"""
