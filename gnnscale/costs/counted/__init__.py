"""What a model's blocks compute, move and keep, counted by sizes, and what an epoch makes of it.

The one table of such facts: `phases` states them by `propagations`, `rows` and `opaque`, `profiled`
has those of layers that do not say, `reading` makes a `ModelCosts` of a model, `epochs` sums it up
for each way to train, and `memory` says what a step has. `amounts`, `facts`, `model`, `memory` and
`epochs` are numbers alone, without torch.
"""
