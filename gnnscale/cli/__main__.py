"""`python -m gnnscale.cli`, for where the script `gnnscale` is not on the path."""

from gnnscale.cli import main

main()
