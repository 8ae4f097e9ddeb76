"""What a run will take, before it runs: of a job, under a configuration, on a machine.

`job` is what is planned for, `configuration` a way to train it; `batches` says how large a batch
will be, and `memory` what `fit` adds to the process.
"""
