"""Two hosts: network namespaces that only a virtual link joins, and torchrun's agent in each.

Needs Linux, the `ip` command, and namespaces that this user may make; skipped where they are not.
"""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch

from tests.helpers.rank_runs import trainer_of
from tests.helpers.small_runs import assert_same, weights_of

CASE = ("batch norm", {"model": "gcn", "optimizer": "sgd", "epochs": 2})

HOSTS = """
import ctypes, json, os, subprocess, sys

NEWUSER, NEWNET = 0x10000000, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)

def refuse(why):
    print("no namespaces:", why, file=sys.stderr)
    sys.exit(1)

def alone():
    user, group = os.getuid(), os.getgid()
    if libc.unshare(NEWNET) == 0:
        return
    if libc.unshare(NEWUSER | NEWNET):
        refuse(os.strerror(ctypes.get_errno()))
    for name, text in (
        ("uid_map", f"0 {user} 1"), ("setgroups", "deny"), ("gid_map", f"0 {group} 1")
    ):
        try:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        except OSError as error:
            refuse(f"{name}: {error}")

def ip(*words):
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        refuse(f"{' '.join(map(str, words))}: {done.stderr}")

def up(device, address):
    ip("link", "set", "lo", "up")
    ip("address", "add", f"{address}/30", "dev", device)
    ip("link", "set", device, "up")
    os.environ["GLOO_SOCKET_IFNAME"] = device

ADDRESSES = ["10.99.0.1", "10.99.0.2"]
alone()
(born, bears), (linked, links) = os.pipe(), os.pipe()
other = os.fork()
if other == 0:
    os.close(links)
    alone()
    os.write(bears, b"1")
    if not os.read(linked, 1):  # the first host has ended
        os._exit(1)
    host = 1
else:
    os.close(bears)
    os.read(born, 1)
    ip("link", "add", "gs0", "type", "veth", "peer", "name", "gs1", "netns", other)
    os.write(links, b"1")
    host = 0
up(f"gs{host}", ADDRESSES[host])

def train(name, options, folder):
    import torch
    from tests.helpers import rank_runs, small_runs
    assert os.environ["GROUP_WORLD_SIZE"] == os.environ["WORLD_SIZE"] == "2"
    torch.set_num_threads(1)
    small_runs.draw_nothing(setattr)
    small_runs.read_no_memory(setattr)
    trainer = rank_runs.trainer_of(name, options)
    trainer.fit()
    torch.save(small_runs.weights_of(trainer), f"{folder}/{os.environ['RANK']}.pt")

from torch.distributed.launcher.api import LaunchConfig, elastic_launch
config = LaunchConfig(
    min_nodes=2, max_nodes=2, nproc_per_node=1, run_id="two hosts", max_restarts=0,
    rdzv_backend="c10d", rdzv_endpoint=f"{ADDRESSES[0]}:29400", local_addr=ADDRESSES[host],
    rdzv_configs={"is_host": host == 0, "timeout": 60}, start_method="fork",
)
failed = 1
try:
    elastic_launch(config, train)(*json.loads(sys.argv[1]), sys.argv[2])
    failed = 0
finally:
    if host == 1:
        os._exit(failed)
_, status = os.waitpid(other, 0)
sys.exit(status)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
@pytest.mark.skipif(shutil.which("ip") is None, reason="there is no `ip` command")
def test_two_hosts_learn_what_one_process_does(forks, tmp_path):
    hosts = forks.start(HOSTS, json.dumps(CASE), str(tmp_path))
    name, options = CASE
    trainer = trainer_of(name, {**options, "accumulate": 2})
    trainer.fit()
    failed, said = hosts.wait(), hosts.errors.read_text()
    if failed and "no namespaces: " in said:
        pytest.skip(said)
    assert not failed, said
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert_same(*found)
    for key, value in weights_of(trainer).items():
        torch.testing.assert_close(found[0][key], value, rtol=1e-6, atol=1e-6, msg=key)
