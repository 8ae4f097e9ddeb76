"""The command line: `gnnscale import | info | train | evaluate | predict | append | bench …`.

Commands import torch when they run, not before: `gnnscale --help` and `gnnscale datasets` answer at
once.
"""

from gnnscale.cli.program import app, main

__all__ = ["app", "main"]
