"""What runs in the worker process: numpy and one native partitioner, nothing else.

Started as `python -P worker.py job.json`. It must not import gnnscale or torch: an OpenMP runtime
already running, or 400 MB of libraries, is what the separate process is there to avoid.
"""

import json
import sys

import numpy as np


def run_kaminpar(job, task):
    """Partition the ParHiP file of `task`."""
    import kaminpar

    kaminpar.reseed(job["seed"])
    solver = kaminpar.KaMinPar(job["threads"], kaminpar.context_by_name(job["preset"]))
    graph = kaminpar.load_graph(
        task["graph"], kaminpar.GraphFileFormat.PARHIP, compress=job["compress"]
    )
    return solver.compute_partition(graph, task["num_parts"], job["imbalance"])


def run_metis(job, task):
    """Partition the .npy arrays of `task`."""
    import pymetis

    indptr = np.load(task["indptr"], allow_pickle=False)
    indices = np.load(task["indices"], allow_pickle=False).astype(np.int64)
    weight = np.load(task["weight"], allow_pickle=False) if task["weight"] else None
    options = pymetis.Options(seed=job["seed"], ufactor=task["ufactor"])
    return pymetis.part_graph(
        task["num_parts"],
        pymetis.CSRAdjacency(indptr, indices),
        vweights=weight,
        recursive=task["recursive"],
        options=options,
    )[1]


def die_with_parent():
    """Ask Linux to end this process when the one that waits for it is killed."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def main(path):
    """Do every task of the job file and write each assignment, int32 `[num_nodes]`."""
    die_with_parent()
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    run = {"kaminpar": run_kaminpar, "metis": run_metis}[job["method"]]
    for task in job["tasks"]:
        np.save(task["out"], np.asarray(run(job, task), dtype=np.int32), allow_pickle=False)


if __name__ == "__main__":
    main(sys.argv[1])
