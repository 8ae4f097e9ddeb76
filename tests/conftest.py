"""Settings of the whole suite, made before torch is imported anywhere."""

from __future__ import annotations

import os

# Threads that wait for work spin by default, and starve each other where the cores are shared with
# another process: one test took 93 s instead of 9.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
