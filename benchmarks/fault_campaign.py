"""The fault campaign: kills at random moments, bad inputs, flipped bytes, other runs' files.

    python benchmarks/fault_campaign.py --kills 300 --inputs 5000 --flips 300 --figures 300 \
        --foreign 300
    python benchmarks/fault_campaign.py --quick    # the same in some minutes, into no file

Each part can be left out with 0; what the result file holds of it then stays. The exit status is 1
where something was found.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from faults.figures import figure_campaign
from faults.flips import flip_campaign
from faults.foreign import foreign_campaign
from faults.inputs import input_campaign
from faults.kills import kill_campaign
from rich.console import Console
from rich.table import Table

from gnnscale.storage.files import read_json, write_json
from gnnscale.train.run.report import environment

RESULT = Path(__file__).parent / "results" / "fault_campaign.json"
CAMPAIGNS = {
    "kills": kill_campaign,
    "inputs": input_campaign,
    "flips": flip_campaign,
    "figures": figure_campaign,
    "foreign": foreign_campaign,
}
WHOLE = {"kills": 300, "inputs": 5000, "flips": 300, "figures": 300, "foreign": 300}
QUICK = {"kills": 15, "inputs": 150, "flips": 20, "figures": 30, "foreign": 30}


def show(result: dict[str, Any], console: Console) -> None:
    table = Table("part", "what", "count")
    for name in CAMPAIGNS:
        for what, count in _flat(result.get(name, {})):
            table.add_row(name, what, f"{count:,}")
    console.print(table)
    for name in CAMPAIGNS:
        for finding in result.get(name, {}).get("findings", []):
            console.print(f"[red]{name}[/red]", finding)


def _flat(counts: dict[str, Any], prefix: str = "") -> list[tuple[str, int]]:
    rows = []
    for name, value in counts.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}: ")
        elif isinstance(value, list):
            rows.append((prefix + name, len(value)))
        elif isinstance(value, int):
            rows.append((prefix + name, value))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in CAMPAIGNS:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    console = Console()
    numbers, out = (QUICK, None) if arguments.quick else (WHOLE, arguments.out)
    result: dict[str, Any] = read_json(out) if out is not None and out.exists() else {}
    for name, campaign in CAMPAIGNS.items():
        given = getattr(arguments, name)
        if number := numbers[name] if given is None else given:
            started = time.monotonic()
            with console.status(f"{number} {name}"):
                done = campaign(number, arguments.seed)
            result[name] = {
                **done,
                "seed": arguments.seed,
                "wall_seconds": time.monotonic() - started,
                "environment": environment("cpu"),
            }
            if out is not None:
                write_json(out, result)
    show(result, console)
    raise SystemExit(any(result.get(name, {}).get("findings") for name in CAMPAIGNS))


if __name__ == "__main__":
    main()
