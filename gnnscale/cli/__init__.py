"""The command line: `gnnscale train | evaluate | predict | partition | info | datasets`.

Commands import torch when they run, not before: `gnnscale --help` and `gnnscale datasets` answer at
once.
"""

from gnnscale.cli.program import app, main

__all__ = ["app", "main"]
