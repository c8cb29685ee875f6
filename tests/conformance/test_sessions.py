"""Commands inside containers: sessions, terminals, attaching, through the operator API of Mesos 1.11.

What each answer has to be was compared with an original agent where one could answer.
"""

import contextlib
import hashlib
import os
import time
from pathlib import Path

import pytest
from cluster import Cluster, eventually
from session import Agent, Input, container_of, deploy, destroy, in_background, leftovers, switchboards

LINUX = {"launcher": "linux",
         "isolation": "cgroups/cpu,cgroups/mem,filesystem/linux,namespaces/pid"}
POSIX = {"launcher": "posix", "isolation": "posix/cpu,posix/mem"}


@pytest.fixture(scope="module", params=["posix", "linux"])
def node(request):
    if request.param == "linux" and os.geteuid() != 0:
        pytest.skip("containers of Linux take root")
    with Cluster(LINUX if request.param == "linux" else POSIX) as cluster:
        task = deploy(cluster, "host", env={"GREETING": "hello from the task"})
        cluster.agent = Agent(cluster.agent_port)
        cluster.apps = ["host"]
        cluster.parent = container_of(task)
        yield cluster
        for app in cluster.apps:
            destroy(cluster, app)
        eventually("no switchboard is left", lambda: not leftovers(cluster.folder))


def test_a_session_tells_output_and_exit_code(node):
    session = node.agent.shell(node.parent, "echo out; echo err >&2; exit 7")
    assert session.status == 200
    assert session.answer.headers["Content-Type"] == "application/recordio"
    assert session.answer.headers["Message-Content-Type"] == "application/json"
    assert session.rest() == {"STDOUT": b"out\n", "STDERR": b"err\n"}
    assert node.agent.wait(session.container_id) == 7 << 8


def test_a_session_is_inside_of_its_parent(node):
    session = node.agent.shell(node.parent, "echo $GREETING; pwd; echo $MESOS_SANDBOX")
    greeting, folder, sandbox = session.rest()["STDOUT"].decode().split("\n")[:3]
    assert greeting == "hello from the task"
    assert folder == sandbox
    assert os.path.isfile(f"{sandbox}/stdout")


def test_input_is_binary_safe_and_ends(node):
    data = os.urandom(3_000_000)
    session = node.agent.shell(node.parent, "sha256sum; cat <&0 | wc -c")
    sent = Input(node.agent, session.container_id)

    def send():
        for start in range(0, len(data), 50_000):
            sent.data(data[start:start + 50_000])
        sent.data(b"")

    sender = in_background(send)
    said = session.rest()["STDOUT"].split()
    sender.join(120)
    assert said == [hashlib.sha256(data).hexdigest().encode(), b"-", b"0"]
    assert sent.end() == 200
    assert node.agent.wait(session.container_id) == 0


def test_a_terminal_has_a_size_and_takes_signals(node):
    session = node.agent.shell(
        node.parent, "trap 'echo caught; exit 5' INT; tty -s && echo terminal; stty size; "
                     "while read line; do stty size; done",
        tty={"window_size": {"rows": 11, "columns": 33}})
    assert session.until(lambda said: b"11 33" in said).split() == [b"terminal", b"11", b"33"]
    typed = Input(node.agent, session.container_id)
    typed.size(50, 132)
    typed.data(b"\n")
    session.until(lambda said: b"50 132" in said)
    # Ctrl-C is a character, which the terminal makes a signal of.
    typed.data(b"\x03")
    assert b"caught" in session.rest()["STDOUT"]
    assert node.agent.wait(session.container_id) == 5 << 8
    assert typed.answer() == 200


def test_a_terminal_ends_by_its_character(node):
    session = node.agent.session(node.parent, ["/bin/cat"], tty={})
    typed = Input(node.agent, session.container_id)
    typed.data(b"one\n")
    session.until(lambda said: said.count(b"one") == 2)
    # No bytes mean nothing to a terminal.
    typed.data(b"")
    typed.data(b"two\n")
    session.until(lambda said: said.count(b"two") == 2)
    typed.data(b"\x04")
    session.rest()
    assert node.agent.wait(session.container_id) == 0
    assert typed.answer() == 200


def test_who_closes_its_terminal_may_still_exit(node):
    session = node.agent.shell(node.parent, "echo done; exec <&- >&- 2>&-; sleep 0.5; exit 4", tty={})
    assert session.rest()["STDOUT"] == b"done\r\n"
    assert node.agent.wait(session.container_id) == 4 << 8


def test_much_output_to_a_slow_reader_piles_up_nowhere(node):
    session = node.agent.shell(node.parent, "head -c 100000000 /dev/zero")
    time.sleep(2)
    assert memory(node) < 300 << 20
    total = sum(len(data) for _, data in session.pieces())
    assert total == 100_000_000
    assert memory(node) < 300 << 20
    assert node.agent.wait(session.container_id) == 0


def memory(node) -> int:
    with open(f"/proc/{node.agent_program.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_session_ends_with_its_connection(node):
    session = node.agent.shell(node.parent, "echo $$; exec sleep 1000")
    session.until(lambda said: b"\n" in said)
    session.close()
    closed = time.monotonic()
    assert node.agent.wait(session.container_id) == 9
    assert time.monotonic() - closed < 90, "what ran there would take a thousand seconds"


def test_one_input_many_outputs(node):
    session = node.agent.session(node.parent, ["/bin/cat"])
    other = node.agent.attach(session.container_id)
    assert other.status == 200
    first = Input(node.agent, session.container_id)
    first.data(b"heard\n")
    for output in (session, other):
        output.until(lambda said: b"heard\n" in said)
    second = Input(node.agent, session.container_id)
    assert second.answer() == 409
    assert second.text == "Multiple input connections are not allowed"
    # Another may take its place, and standard input goes on.
    assert first.end() == 200
    third = Input(node.agent, session.container_id)
    third.data(b"again\n")
    session.until(lambda said: b"again\n" in said)
    third.data(b"")
    session.rest()
    assert node.agent.wait(session.container_id) == 0


def test_signals_reach_a_session(node):
    session = node.agent.shell(node.parent, "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done")
    session.until(lambda said: b"ready" in said)
    status, _ = node.agent.call("KILL_CONTAINER", container_id=session.container_id, signal=10)
    assert status == 200
    session.rest()
    assert node.agent.wait(session.container_id) == 9 << 8


def test_what_cannot_be_attached_to_is_refused(node):
    plain = node.agent.attach(node.parent)
    assert plain.status == 500, plain.error
    unknown = node.agent.attach({"value": "nobody"})
    assert (unknown.status, unknown.error) == (404, "Container nobody cannot be found")
    typed = Input(node.agent, node.parent)
    assert typed.answer() == 500
    typed = Input(node.agent, {"value": "nobody"})
    assert typed.answer() == 404
    session = node.agent.session(node.parent, ["/bin/cat"])
    typed = Input(node.agent, session.container_id)
    typed.size(1, 1)
    assert typed.answer() == 400
    session.close()
    missing = node.agent.session(node.parent, ["/no/such/program"])
    assert missing.status == 400
    orphan = node.agent.session({"value": "nobody"}, ["/bin/true"])
    assert orphan.status == 400


def test_headers_are_negotiated_as_in_the_original(node):
    def status(headers: dict[str, str], body: str = "{}") -> tuple[int, str]:
        connection = node.agent.connect()
        connection.request("POST", "/api/v1", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    json_type, records = "application/json", "application/recordio"
    health = '{"type":"GET_HEALTH"}'
    assert status({"Content-Type": records})[0] == 400
    assert status({"Content-Type": records, "Message-Content-Type": "text/plain"})[0] == 415
    assert status({"Content-Type": json_type, "Message-Content-Type": json_type}, health)[0] == 415
    assert status({"Content-Type": json_type, "Accept": records}, health)[0] == 406
    assert status({"Content-Type": json_type, "Accept": json_type, "Message-Accept": json_type},
                  health)[0] == 406
    framed = f"{len(health)}\n{health}"
    assert status({"Content-Type": records, "Message-Content-Type": json_type}, framed)[0] == 415
    input_call = '{"type":"ATTACH_CONTAINER_INPUT","attach_container_input":{"type":"CONTAINER_ID"}}'
    assert status({"Content-Type": json_type}, input_call)[0] == 415


@pytest.fixture
def terminal_task(node):
    name = f"terminal-{node.agent_port}-{time.monotonic_ns()}"
    node.apps.append(name)
    return deploy(node, name, tty=True, cmd="while read line; do echo \"<$line>\"; done; exit 3")


def test_a_task_with_a_terminal_is_attached_to(node, terminal_task):
    task = container_of(terminal_task)
    output = node.agent.attach(task)
    assert output.status == 200
    typed = Input(node.agent, task)
    typed.data(b"one\n")
    output.until(lambda said: b"<one>" in said)
    assert typed.end() == 200
    output.close()
    # Leaving changes nothing for the task.
    again = node.agent.attach(task)
    typed = Input(node.agent, task)
    typed.data(b"two\n")
    again.until(lambda said: b"<two>" in said)


def test_a_terminal_outlives_the_agent(node, terminal_task):
    task = container_of(terminal_task)
    session = node.agent.session(task, ["/bin/cat"])
    typed = Input(node.agent, task)
    typed.data(b"before\n")
    log = sandbox_of(node, terminal_task) / "stdout"
    eventually("the log has it", lambda: b"<before>" in log.read_bytes())
    node.agent_program.kill()
    time.sleep(0.5)
    assert pid_of(log), "the task runs on"
    node.agent_program.start()
    eventually("the agent is back", lambda: node.agent.call("GET_HEALTH")[0] == 200)

    def attached():
        output = node.agent.attach(task)
        return output if output.status == 200 else None

    output = eventually("attached again", attached)
    typed = Input(node.agent, task)
    typed.size(7, 77)
    typed.data(b"after\n")
    output.until(lambda said: b"<after>" in said)
    eventually("the log has it", lambda: b"<after>" in log.read_bytes())
    # The session's connection broke with the agent, and so the session has ended.
    eventually("the session is over",
               lambda: node.agent.call("WAIT_CONTAINER", container_id=session.container_id)[0] == 200)


def sandbox_of(node, task):
    found = list(Path(node.folder / "agent").glob(f"slaves/*/frameworks/*/executors/{task['id']}/runs/*"))
    return next(path for path in found if path.name != "latest")


def pid_of(log) -> list[str]:
    """Processes that work in the folder of a log."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd") == str(log.parent):
                found.append(pid)
        except OSError:
            continue
    return found


def test_a_dead_switchboard_ends_its_session(node):
    session = node.agent.shell(node.parent, "echo ready; sleep 1000")
    session.until(lambda said: b"ready" in said)
    own = switchboards(node.folder)
    assert own
    for pid in own:
        # Of other sessions one may just have ended.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
    status, answer = node.agent.call("WAIT_CONTAINER", container_id=session.container_id)
    assert status == 200
    assert answer["wait_container"].get("reason") == "REASON_IO_SWITCHBOARD_EXITED", answer


def test_standalone_containers(node):
    alone = {"value": f"alone-{time.monotonic_ns()}"}
    call = node.agent.call
    launch = {"container_id": alone, "command": {"value": "echo hi; trap 'exit 4' TERM; while :; do sleep 0.05; done"},
              "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                            {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}]}
    assert call("LAUNCH_CONTAINER", **launch) == (200, "")
    assert call("LAUNCH_CONTAINER", **launch)[0] == 202
    sandbox = node.folder / "agent" / "containers" / alone["value"]
    eventually("it ran", lambda: (sandbox / "stdout").read_text() == "hi\n")
    nested = {"value": "below", "parent": alone}
    assert call("LAUNCH_CONTAINER", container_id=nested, command={"value": "exit 6"})[0] == 200
    assert node.agent.wait(nested) == 6 << 8

    def known(**what) -> list:
        _, answer = call("GET_CONTAINERS", **what)
        found = answer.get("get_containers", {}).get("containers", [])
        return [c["container_id"] for c in found if c["container_id"].get("parent", c["container_id"]) == alone]

    assert known() == []
    assert known(show_standalone=True) == [alone]
    assert call("REMOVE_CONTAINER", container_id=alone)[0] == 500
    # It outlives the agent, and belongs to the next one.
    node.agent_program.kill()
    node.agent_program.start()
    eventually("it is taken up", lambda: call("GET_HEALTH")[0] == 200 and known(show_standalone=True) == [alone])
    assert call("KILL_CONTAINER", container_id=alone, signal=15)[0] == 200
    assert node.agent.wait(alone) == 4 << 8
    assert call("KILL_CONTAINER", container_id=alone)[0] == 404
    assert call("REMOVE_CONTAINER", container_id=alone)[0] == 200
    assert not sandbox.exists()
    assert call("REMOVE_CONTAINER", container_id=alone)[0] == 404
    assert call("WAIT_CONTAINER", container_id=alone)[0] == 404
