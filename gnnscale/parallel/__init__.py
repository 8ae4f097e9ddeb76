"""Several devices: stages of a model, the schedules they run by, and the engines that run them.

A schedule is a table: what every device runs, in which order. The same table drives the engine on
`torch.distributed`, the local executor and the simulator.
"""

from gnnscale.parallel.micro_batches import balance_micro_batches, order_micro_batches
from gnnscale.parallel.schedules import Action, Schedule, make_schedule
from gnnscale.parallel.simulation.simulator import simulate
from gnnscale.parallel.simulation.timeline import Event, Timeline, Transfer
from gnnscale.parallel.trainer import PipelineTrainer

__all__ = [
    "Action",
    "Event",
    "PipelineTrainer",
    "Schedule",
    "Timeline",
    "Transfer",
    "balance_micro_batches",
    "make_schedule",
    "order_micro_batches",
    "simulate",
]
