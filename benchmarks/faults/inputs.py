"""Bad inputs over the public surface: each gives a named error, or works; nothing else may happen.

The examples run in a worker process, so that a crash or a hang of the process is an outcome, too,
and its example known. Run as a script, this file is the worker.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

_HANG_SECONDS = 60.0
_MEMORY = 24 << 30  # of addresses: what asks for more is refused by the system


def input_campaign(inputs: int, seed: int) -> dict[str, Any]:
    """Try so many inputs; outcomes by family, and every finding once, with an example."""
    from faults.surface import FAMILIES

    counts: dict[str, Counter[str]] = {name: Counter() for name in FAMILIES}
    findings: dict[tuple[str, ...], dict[str, Any]] = {}
    total = sum(family.share for family in FAMILIES.values())
    wanted = {name: math.ceil(inputs * family.share / total) for name, family in FAMILIES.items()}
    restarts = 0
    while any((left := {n: wanted[n] - counts[n].total() for n in wanted}).values()):
        for outcome in _run_worker(left, seed + 1000 * restarts):
            family = outcome["family"]
            counts[family][outcome["outcome"]] += 1
            if outcome["outcome"] in ("unnamed error", "crash", "hang"):
                key = (family, outcome["error"], outcome["where"])
                found = findings.setdefault(key, {**outcome, "times": 0})
                found["times"] += 1
        restarts += 1
    outcomes = sum(counts.values(), Counter[str]())
    return {
        "inputs": sum(outcomes.values()),
        "outcomes": dict(outcomes),
        "families": {name: dict(count) for name, count in counts.items()},
        "findings": sorted(findings.values(), key=lambda found: -found["times"]),
    }


def _run_worker(left: dict[str, int], seed: int) -> list[dict[str, Any]]:
    """What came of the examples that one worker got through, a crash or hang being the last."""
    with tempfile.TemporaryDirectory(prefix="gnnscale-inputs-") as folder:
        results, now = Path(folder, "results.jsonl"), Path(folder, "now.json")
        results.touch()
        job = json.dumps({"left": left, "seed": seed, "results": str(results), "now": str(now)})
        path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
        with open(Path(folder, "said.txt"), "wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", __file__, job],
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([path, os.environ.get("PYTHONPATH", "")]),
                    "GNNSCALE_CACHE": folder,
                    "OMP_WAIT_POLICY": "passive",
                },
                stdout=said,
                stderr=said,
            )
        hung = False
        while process.poll() is None:
            time.sleep(0.5)
            if now.exists() and time.time() - now.stat().st_mtime > _HANG_SECONDS:
                hung = True
                process.kill()
                process.wait()
        outcomes = [json.loads(line) for line in results.read_text().splitlines()]
        if process.returncode == 0:
            return outcomes
        if not now.exists():
            raise RuntimeError(Path(folder, "said.txt").read_text(errors="replace"))
        outcome = "hang" if hung else "crash"
        where = f"exit status {process.returncode}"
        said_last = Path(folder, "said.txt").read_text(errors="replace")[-600:]
        return [
            *outcomes,
            {
                **json.loads(now.read_text()),
                "outcome": outcome,
                "error": said_last,
                "where": where,
            },
        ]


# --- the worker -------------------------------------------------------------------------------


def _work(job: dict[str, Any]) -> None:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    from faults.surface import FAMILIES

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    with open(job["results"], "a", buffering=1) as results:
        for family, count in job["left"].items():
            if count <= 0:
                continue
            arguments, use, _ = FAMILIES[family]
            run = settings(
                max_examples=count,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(given(arguments)(_trial(family, use, Path(job["now"]), results)))
            seeded(job["seed"])(run)()


def _trial(family: str, use: Callable[[Any], None], now: Path, results: Any) -> Any:
    from faults.uses import GOOD

    def try_one(example: Any) -> None:
        shown = example
        if isinstance(example, dict):  # what is sound in it would hide the rest
            shown = {k: v for k, v in example.items() if k not in GOOD or v is not GOOD[k]}
        about = {"family": family, "example": repr(shown)[:1500]}
        now.write_text(json.dumps(about))
        results.write(json.dumps({**about, **_outcome(use, example)}) + "\n")

    return try_one


def _outcome(use: Callable[[Any], None], example: Any) -> dict[str, str]:
    from gnnscale.errors import GnnscaleError

    try:
        use(example)
    except GnnscaleError as error:
        return {"outcome": "named error", "error": type(error).__name__, "where": ""}
    except BaseException as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return {"outcome": "no memory", "error": str(error), "where": _where(error)}
        told = f"{type(error).__name__}: {str(error)[:300]}"
        return {"outcome": "unnamed error", "error": told, "where": _where(error)}
    return {"outcome": "works", "error": "", "where": ""}


def _where(error: BaseException) -> str:
    """The innermost line of gnnscale."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if f"{os.sep}gnnscale{os.sep}" in frame.filename]
    if not inside:
        return "outside gnnscale"
    frame = inside[-1]
    return f"{frame.filename.split(f'{os.sep}gnnscale{os.sep}')[-1]}:{frame.lineno} {frame.name}"


if __name__ == "__main__":
    _work(json.loads(sys.argv[1]))
