"""The agent as DC/OS's unit, under a real systemd: who restarts the unit keeps the tasks.

There `KillMode=control-group` has systemd end all that is in the unit's cgroup, and `Delegate=true` says that the rest of
the cgroups is the agent's business (`dcos-mesos-slave.service` of DC/OS 2.1).
"""

import os
from pathlib import Path

import pytest
import systemd
from cluster import Cluster, Program, binary, eventually
from session import deploy
from systemd import Systemd, UserManager

NAME = "dcos-mesos-slave.service"
UNIT = """
[Unit]
Description=Mesos Agent: distributed systems kernel agent
[Service]
Restart=always
StartLimitInterval=0
RestartSec=5
KillMode=control-group
Delegate=true
LimitNOFILE=infinity
LimitCORE=infinity
TasksMax=infinity
{environment}
{more}
StandardOutput=append:{log}
StandardError=append:{log}
ExecStart={program} {flags}
"""


class Unit(Program):
    """A program that systemd starts."""

    def __init__(self, host: Systemd | UserManager, program: Program) -> None:
        super().__init__(program.name, program.flags, program.log, program.env)
        self.host, self.more = host, ""

    def start(self) -> None:
        flags = " ".join(f'"--{key}={value}"' for key, value in self.flags.items())
        variables = {**self.env, **{key: os.environ[key] for key in ("PATH", "DCOS_CONFORMANCE") if key in os.environ}}
        environment = "\n".join(f'Environment="{key}={value}"' for key, value in variables.items())
        (self.host.units / NAME).write_text(UNIT.format(
            environment=environment, more=self.more, log=self.log, program=binary(self.name), flags=flags))
        started = self.host.control("start", NAME)
        assert started.returncode == 0, started.stderr

    def stop(self, *_: object) -> None:
        self.host.control("stop", NAME)


def pids(mark: str) -> set[int]:
    """The processes with `mark` among their arguments."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                found.add(int(process.name))
        except OSError:
            pass
    return found


def cgroups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


@pytest.mark.parametrize(("hierarchies", "support"), [("hybrid", "true"), ("unified", "true"), ("hybrid", "false")])
def test_a_restart_of_the_unit_leaves_tasks_alone(hierarchies, support, tmp_path):
    if reason := systemd.why_not(hierarchies):
        pytest.skip(reason)
    with Systemd(tmp_path, hierarchies) as host:
        flags = {"systemd_enable_support": support, "launcher": "linux"}
        cluster = Cluster(agent_flags=flags)
        cluster.agent_program = Unit(host, cluster.agent_program)
        with cluster:
            mark = tmp_path.name + hierarchies + support
            # One process, by whose words it is found: what starts others is twice there for a moment.
            task = deploy(cluster, "stays", cmd=f"exec perl -e 'sleep' {mark}")
            before = eventually("the task", lambda: pids(mark))
            agent = cluster.agents()[0]["id"]
            main = host.show(NAME, "MainPID")
            restarted = host.control("restart", NAME)
            assert restarted.returncode == 0, restarted.stderr
            assert host.show(NAME, "MainPID") != main
            if support == "false":
                eventually("its end", lambda: not before & pids(mark))
                return
            log = Path(cluster.agent_program.log)
            eventually("two lives of the agent", lambda: log.read_text().count("containers outlive") == 2)
            eventually("the agent", lambda: [one["active"] for one in cluster.agents()] == [True])
            assert pids(mark) == before
            for pid in before:
                assert "mesos_executors.slice" in cgroups(pid) and NAME not in cgroups(pid), cgroups(pid)
            assert cluster.agents()[0]["id"] == agent
            framework = cluster.state()["frameworks"][0]
            assert [(one["id"], one["state"]) for one in framework["tasks"]] == [(task["id"], "TASK_RUNNING")]
            assert not framework["completed_tasks"]
