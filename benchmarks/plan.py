"""Is what is predicted true? Time and memory of many ways to train, predicted and then measured.

    python benchmarks/plan.py --part predict time memory    # all cases; goes on where it stopped
    python benchmarks/plan.py --part time --cases 20 --seconds 200      # a quick look
    python benchmarks/plan.py --part choice                 # is what a plan recommends the fastest?
    python benchmarks/plan.py --part bound --cases 24       # does memory= hold, from outside?
    python benchmarks/plan.py --table                                   # of the results so far

`predict` writes down what `gnnscale.costs.predicted` says, by the cached profile of the machine
(measured here where there is none). `time` and `memory` run each case in a process of its own,
three times in turns, and keep what they find one by one (see plan_run.py for what is measured, and
how; plan_cases.py for the cases, half of which are drawn by the last commit that changed the
predictions). Nothing else should run beside `time`. A case that fails is kept with its error, and
tried again with --again. Of several ranks the slowest counts, and the one that holds most.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import plan_cases
import plan_tables as tables
from campaign import RESULTS
from plan_cases import Case
from plan_run import SECONDS, Failed, measure
from rich.console import Console
from rich.logging import RichHandler

from gnnscale.costs.machine.cached import known, remember
from gnnscale.costs.machine.measured import measure as measured_machine
from gnnscale.storage.files import read_json, write_json
from gnnscale.storage.memory import memory_bytes
from gnnscale.train.run.report import environment

logger = logging.getLogger("plan")
Found = dict[str, Any]


class Results:
    """What has been found so far, by case and part; written after every run."""

    def __init__(self, path: Path, word: str) -> None:
        self._path = path
        known = read_json(path) if path.exists() else {}
        self.cases: dict[str, Found] = known.get("cases", {})
        self.word = word

    def of(self, case: Case) -> Found:
        """What is known of a case."""
        return self.cases.setdefault(case.name, {"case": case.saved})

    def write(self) -> None:
        about = {"environment": environment("cpu"), "drawn by": self.word}
        write_json(self._path, {**about, "cases": self.cases})


def predict(case: Case, found: Found) -> None:
    setting = {"case": {**case.saved, "ranks": 1}, "predict": {"ranks": case.ranks}}
    ((outcome, _),) = measure(setting, watched=False)
    found["predicted"] = {**outcome, "at": time.time()}


def run_time(case: Case, found: Found) -> None:
    ranks = measure({"case": case.saved, "seconds": SECONDS}, watched=False)
    slowest = max((outcome for outcome, _ in ranks), key=lambda outcome: outcome["epoch"])
    found.setdefault("time", []).append({**slowest, "at": time.time()})


def run_memory(case: Case, found: Found) -> None:
    # Few epochs; partitions are made, as they are the first time; imports are done before.
    setting = {"case": case.saved, "seconds": 1.0, "evaluates": False, "warm": True, "anew": True}
    ranks = measure(setting, watched=True)
    most = max((peak for _, peak in ranks), key=lambda peak: peak.added)
    found.setdefault("memory", []).append({**most._asdict(), "at": time.time()})


def run_choice(case: Case, found: Found) -> None:
    """A plan's grid for a graph and a model, each run twice in turns; without a bound and with."""
    for tight in (None, 1.3):
        asked = {"bound": tight, "others": 3}
        ((outcome, _),) = measure({"case": case.saved, "predict": asked}, watched=False)
        for _ in range(2):
            for one in outcome["grid"]:
                more = {} if outcome["bound"] is None else {"memory": outcome["bound"]}
                own = {**case.saved, "options": one["options"]}
                setting = {"case": own, "seconds": 1.0, "evaluates": False, "more": more}
                setting["may_refuse"] = True
                ((took, _),) = measure(setting, watched=False)
                one.setdefault("measured", []).append(took.get("epoch"))
        found.setdefault("choice", []).append(outcome)


def run_bound(case: Case, found: Found) -> None:
    """The smallest bound that a trainer names, whether it holds, and one half as large again."""
    refusals: list[str] = []
    bound, tries = "1MB", 0
    while tries < 5:
        outcome, most = _bounded(case, bound)
        if "refused" not in outcome:
            break
        named = re.findall(r"memory='([^']+)'", outcome["refused"])
        refusals.append(outcome["refused"])
        if len(named) < 2 or memory_bytes(named[-1]) <= memory_bytes(bound):
            break
        bound, tries = named[-1], tries + 1
    told: Found = {"refusals": refusals, "bound": memory_bytes(bound), "added": most}
    if "refused" in outcome:
        told["still refused"] = True
    else:
        wider = int(1.5 * memory_bytes(bound))
        outcome, most = _bounded(case, wider)
        told["wider"] = {"bound": wider, "added": most, **outcome}
    found["bound"] = [told]


def _bounded(case: Case, bound: str | int) -> tuple[Found, int]:
    setting = {"case": case.saved, "seconds": 0.5, "evaluates": False, "warm": True, "anew": True}
    setting |= {"more": {"memory": bound}, "may_refuse": True, "predicts": True}
    ranks = measure(setting, watched=True)
    refused = next((outcome for outcome, _ in ranks if "refused" in outcome), {})
    return refused, max(peak.added for _, peak in ranks)


PARTS: dict[str, tuple[Callable[[Case, Found], None], bool]] = {
    "predict": (predict, False),
    "time": (run_time, True),
    "memory": (run_memory, True),
    "choice": (run_choice, False),
    "bound": (run_bound, False),
}
_KEPT = {"predict": "predicted"}


def settings(cases: list[Case], parts: list[str], repeats: int) -> Iterator[tuple[str, Case]]:
    """What is to be run, in turns."""
    for part in parts:
        for _ in range(repeats if PARTS[part][1] else 1):
            for case in cases:
                yield part, case


def chosen(args: argparse.Namespace) -> list[Case]:
    """The cases that are asked for."""
    cases = [*plan_cases.written(), *plan_cases.drawn(args.word)]
    if args.part == ["choice"]:
        cases = plan_cases.to_choose()
    cases = [case for case in cases if all(word in case.name for word in args.only)]
    if args.cases is not None and args.cases < len(cases):
        cases = [cases[n * len(cases) // args.cases] for n in range(args.cases)]
    return cases


def run(args: argparse.Namespace, cases: list[Case], results: Results) -> None:
    started = time.monotonic()
    done: dict[tuple[str, str], int] = {}
    for part, case in settings(cases, args.part, args.repeats):
        found = results.of(case)
        name, repeats = _KEPT.get(part, part), PARTS[part][1]
        key = part, case.name
        done[key] = done.get(key, 0) + 1
        if args.again:
            found.get("failed", {}).pop(name, None)
        known = found.get(name, [])
        is_known = len(known) >= done[key] if repeats else bool(known) and not args.anew
        if is_known or name in found.get("failed", {}):
            continue
        if time.monotonic() - started > args.seconds:
            logger.info("stopped after %g s: the same command goes on", args.seconds)
            break
        try:
            PARTS[part][0](case, found)
            logger.info("%s: %s: %s", case.name, part, tables.in_short(part, found))
        except Failed as error:
            found.setdefault("failed", {})[name] = str(error)
            logger.warning("%s: %s failed: %s", case.name, part, error)
        results.write()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--part", nargs="*", default=["predict", "time", "memory"], choices=list(PARTS))
    add("--cases", type=int, help="so many of them, evenly chosen")
    add("--only", nargs="*", default=[], help="cases whose names have all these words")
    add("--word", default=None, help="draws the second half; else the last change's commit")
    add("--repeats", type=int, default=3)
    add("--seconds", type=float, default=float("inf"), help="begin nothing after so many")
    add("--again", action="store_true", help="try again what has failed")
    add("--anew", action="store_true", help="predict anew what has been predicted")
    add("--out", type=Path, default=RESULTS / "plan.json")
    add("--prepare", action="store_true", help="draw graphs and store them in clusters, no more")
    add("--table", action="store_true", help="show the results so far, no more")
    args = parser.parse_args()
    args.word = args.word or plan_cases.seed()
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[RichHandler()])
    logging.getLogger("gnnscale").setLevel("WARNING")
    cases = chosen(args)
    if args.prepare:
        for case in cases:
            logger.info("%s", case.name)
            plan_cases.prepare(case)
        return
    if not args.table and {"predict", "choice"} & {*args.part} and known() is None:
        logger.info("this machine is measured, once")
        remember(measured_machine())
    results = Results(args.out, args.word)
    if not args.table:
        run(args, cases, results)
    found = [results.cases[case.name] for case in cases if case.name in results.cases]
    console = Console(width=None if sys.stdout.isatty() else 170)
    for table in tables.all_of(found):
        console.print(table)
    tables.draw(found, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
