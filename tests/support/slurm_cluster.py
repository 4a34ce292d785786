"""A SLURM cluster of two nodes on this one machine, of the distribution's packages (munge, slurmctld, slurmd).

    python tests/support/slurm_cluster.py up DIR      # root; prints what to export
    python tests/support/slurm_cluster.py down DIR

Nodes `n1` and `n2` have a core each; jobs are real ones, with their own steps, time limits and signals. Nothing of it
is a service of the machine's: configuration, state and logs lie in DIR.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
NODES = ("n1", "n2")
PLACES = "/usr/sbin:/usr/local/sbin"


def missing() -> list[str]:
    """What of it is not installed, or why it can't be used."""
    path = f"{os.environ.get('PATH', '')}:{PLACES}"
    lacks = [name for name in NEEDED if not shutil.which(name, path=path)]
    return lacks or ([] if os.geteuid() == 0 else ["root's rights"])


def environment(folder: Path) -> dict[str, str]:
    """What a process needs to speak to the cluster."""
    return {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{os.environ['PATH']}:{PLACES}"}


def configuration(folder: Path, host: str, ports: list[int], memory: int) -> str:
    """slurm.conf: no accounting, no control groups, short waits: a requeued job rests until its credential expires."""
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory={memory} State=UNKNOWN"
        for name, port in zip(NODES, ports[1:], strict=True)
    )
    return f"""\
ClusterName=lethe
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmdTimeout=30
KillWait=2
MinJobAge=10
MpiDefault=none
{nodes}
PartitionName=all Nodes={",".join(NODES)} Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


def up(folder: Path, seconds: float = 60) -> dict[str, str]:
    """Bring the cluster up; returns its `environment`. Raises RuntimeError, with the logs' ends, if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").mkdir(exist_ok=True)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**21  # MB, a half each
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(configuration(folder, host, free_ports(3), memory))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    own = environment(folder)
    everything = {**os.environ, **own}
    munged = shutil.which("munged", path=everything["PATH"])
    assert munged
    words = [f"--socket={folder}/munge.socket", f"--key-file={key}", f"--log-file={folder}/munged.log", "--force"]
    words += [f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munge.seed"]
    subprocess.run([munged, *words], check=True, env=everything)
    subprocess.run(["slurmctld", "-c", "-i"], check=True, env=everything)
    for name in NODES:
        (folder / f"spool-{name}").mkdir(exist_ok=True)
        subprocess.run(["slurmd", "-N", name], check=True, env=everything)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        words = ["sinfo", "--noheader", "--Node", "--format", "%T"]
        answer = subprocess.run(words, env=everything, capture_output=True, text=True, check=False)
        if answer.stdout.split() == ["idle"] * len(NODES):
            return own
        time.sleep(0.5)
    told = [f"{file.name}: {file.read_text(errors='replace')[-800:]}" for file in sorted(folder.glob("*.log"))]
    down(folder)
    raise RuntimeError("the cluster did not come up\n" + "\n".join(told))


def down(folder: Path) -> None:
    """End every daemon of the cluster, and its jobs."""
    subprocess.run(
        ["scancel", "--user", "root"], env={**os.environ, **environment(folder)}, capture_output=True, check=False
    )
    for name in ("slurmctld.pid", *(f"slurmd-{node}.pid" for node in NODES), "munged.pid"):
        with suppress(OSError, ValueError):
            os.kill(int((folder / name).read_text()), signal.SIGKILL)  # nothing is to be saved


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("up", "down"))
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    folder = args.folder.resolve()
    if args.what == "down":
        down(folder)
        return
    if lacks := missing():
        sys.exit(f"there is no {', '.join(lacks)} here: apt-get install munge slurmctld slurmd slurm-client, as root")
    for name, value in up(folder).items():
        print(f"export {name}={value}")


if __name__ == "__main__":
    main()
