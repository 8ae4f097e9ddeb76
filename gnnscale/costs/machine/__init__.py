"""The machine: rates at which it computes, moves and sends, measured once and kept."""
