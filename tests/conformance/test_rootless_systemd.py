"""An agent that an ordinary user begins where systemd keeps the control groups: as a unit of `systemd --user`, and by hand.

On hosts whose version 2 of cgroups has but few controllers, as hybrid ones, they are handed on by the test itself: systemd
knows none of them. `make vm-test` has all, and sees limits.
"""

import os
import signal
from pathlib import Path

import pytest
import systemd
from cluster import end_launchers, eventually
from session import deploy, destroy
from systemd import Systemd, UserManager
from test_marathon_api import Api
from test_rootless import User, cluster_of
from test_rootless import pytestmark as pytestmark
from test_systemd import NAME, Unit, pids

SLICE = "mesos_executors.slice"
KNOWN = {"cpu", "memory", "pids"}


@pytest.fixture
def user():
    with User(f"dcosrs{os.getpid() % 100000}", 1_870_000_000 + os.getpid()) as user:
        yield user


@pytest.fixture
def manager(user, tmp_path):
    if reason := systemd.why_no_users("unified"):
        pytest.skip(reason)
    tmp_path.chmod(0o755)
    with Systemd(tmp_path, "unified", controllers=True) as host:
        with UserManager(host, user.number, user.group, user.folder) as manager:
            yield manager
            end_launchers(user.folder)


def isolators(manager: UserManager) -> dict:
    """What has an agent use what controllers there are; those that systemd does not know are handed on for it."""
    if KNOWN <= set((manager.folder / "cgroup.controllers").read_text().split()):
        return {}
    assert manager.control("start", SLICE).returncode == 0
    top, own = manager.host.second(), manager.folder
    above = [folder for folder in own.parents if folder.is_relative_to(top)]
    for folder in (*reversed(above), own, own / SLICE):
        manager.host.hand_on(folder)
    if "hugetlb" not in (own / SLICE / "cgroup.controllers").read_text().split():
        pytest.skip("version 2 of cgroups has no controllers here")
    return {"isolation": "filesystem/linux,namespaces/pid,cgroups/hugetlb"}


def cgroup(manager: UserManager, pid: int) -> Path:
    """Where a process is, from the user's systemd on."""
    line = Path(f"/proc/{pid}/cgroup").read_text().split("0::")[1].strip()
    return Path(line.rpartition(manager.unit)[2].lstrip("/"))


def scopes(manager: UserManager) -> list[Path]:
    return list((manager.folder / SLICE).glob("dcos-agent-*.scope"))


@pytest.mark.parametrize("whose", ["user", "system"])
def test_a_unit_is_restarted_and_its_tasks_stay_within_their_limits(whose, user, manager, tmp_path):
    flags = {"launcher": "linux", "pids_limit": 40, **isolators(manager)}
    whole = "isolation" not in flags
    cluster = cluster_of(user, **flags)
    host = manager if whose == "user" else manager.host
    cluster.agent_program = Unit(host, cluster.agent_program)
    if whose == "system":
        cluster.agent_program.more = f"User={user.name}"
    cluster.agent_program.log = user.folder / "agent.log"
    with cluster:
        log = cluster.agent_program.log
        # Its number is another in there.
        word = tmp_path.name
        deploy(cluster, "stays", cmd=f"exec perl -e 'sleep' {word}", cpus=0.5, mem=64)
        [pid] = eventually("the task", lambda: pids(word))
        [scope] = scopes(manager)
        leaf = cgroup(manager, pid)
        assert leaf.parts[:3] == (SLICE, scope.name, "mesos") and leaf.name == "leaf", leaf
        limits = manager.folder / leaf.parent
        if whole:
            assert (limits / "memory.max").read_text().strip() == str(64 << 20)
            assert (limits / "cpu.weight").read_text().strip() not in ("", "100")
            assert (limits / "pids.max").read_text().strip() == "40"
        main = host.show(NAME, "MainPID")
        mark = f"--work_dir={cluster.agent_program.flags['work_dir']}"

        def agent_is_there():
            return {cgroup(manager, one) for one in pids(mark)} == {Path(SLICE, scope.name, "agent")}

        eventually("the agent in its scope", agent_is_there)
        # `KillMode=control-group` ends what is the unit's, and tasks are not.
        restarted = host.control("restart", NAME)
        assert restarted.returncode == 0, restarted.stderr
        assert host.show(NAME, "MainPID") != main
        eventually("two lives of the agent", lambda: log.read_text().count("containers have control groups there") == 2)
        eventually("the agent in its scope", agent_is_there)
        # A crash is one as well.
        for one in pids(mark):
            os.kill(one, signal.SIGKILL)
        eventually("three lives of the agent", lambda: log.read_text().count("containers have control groups there") == 3)
        eventually("the agent in its scope", agent_is_there)
        eventually("the agent's return", lambda: [one["active"] for one in cluster.agents()] == [True])
        assert pids(word) == {pid} and cgroup(manager, pid) == leaf and scopes(manager) == [scope]
        deploy(cluster, "after", cmd="exec sleep 1000")
        assert len(list((scope / "mesos").glob("*/"))) == 2
        if whole:
            api = Api(cluster)
            api("POST", "/v2/apps", {"id": "/greedy", "cpus": 0.1, "mem": 64, "cmd": "tail /dev/zero"})

            def failure():
                return api("GET", "/v2/apps//greedy")["app"].get("lastTaskFailure")
            message = eventually("the failure", failure)["message"]
            assert message.startswith("Memory limit exceeded: Requested: 64MB"), message
            destroy(cluster, "greedy")
            deploy(cluster, "many", cmd=f"exec perl -e '(fork // 1) || last for 1..100; sleep' {word}-many")
            # Kernels before 6.12 count it where who forks is, not where the limit is.
            eventually("more than may be", lambda: any(
                one.read_text() != "max 0\n" for one in (scope / "mesos").rglob("pids.events")))
            assert len(pids(f"{word}-many")) <= 40
            destroy(cluster, "many")
        destroy(cluster, "after")
        destroy(cluster, "stays")
        eventually("the containers' end", lambda: not list((scope / "mesos").glob("*/")))
    end_launchers(user.folder)
    eventually("the scope's end", lambda: not scopes(manager))
