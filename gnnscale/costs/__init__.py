"""What work costs, in operations, bytes and seconds: counted and measured here, and read above.

- `counted`: what blocks compute, move and keep, by sizes; what an epoch does.
- `passes`: the most that a pass over a batch, a piece or some graphs has in memory, and how it
  grows, on small graphs; from `peak` (bytes allocated, counted).
- `convolutions`: what an opaque convolution takes on a piece of a graph.
- `clusters`, `graphs`: how many a batch may have within a bound.
- `inference`: what of an exact inference may be in memory at a time.
- `predicted`: what a run will take under a configuration: batches, memory by part, seconds.
- `seconds`: how long every block of a model takes.
- `sizes`: what is chosen by sizes alone.

`counted` says what there is in the sum, and by which part; bounds that are promised go by the
steepest that a peak grows anywhere (`passes`), which is never less.
"""
