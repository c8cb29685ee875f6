"""Reservations and persistent volumes, by an unmodified pymesos scheduler and by operators."""

import json
import urllib.parse
import urllib.request

import differential
import pytest
import stateful
from cluster import Cluster, eventually


def volume_file(cluster):
    return cluster.folder / "agent/volumes/roles" / stateful.ROLE / stateful.VOLUME / "file"


def reserved(cluster):
    (agent,) = cluster.agents()
    return agent["reserved_resources"].get(stateful.ROLE, {})


def active(cluster):
    return [agent for agent in cluster.agents() if agent["active"]]


@pytest.mark.parametrize("isolation", ["posix/cpu,posix/mem", "filesystem/linux"])
def test_a_volume_outlives_its_tasks_and_the_agent(isolation):
    flags = {"launcher": "posix", "isolation": isolation}
    if isolation == "filesystem/linux":
        import os
        if os.geteuid() != 0:
            pytest.skip("mounts need root")
        flags = {"isolation": isolation}
    with Cluster(agent_flags=flags, master_flags={"without": "marathon,metronome"}) as cluster:
        def restart():
            cluster.agent_program.kill()
            cluster.start_agent()

        def check(moment):
            if moment == "given back":
                eventually("the end of the volume", lambda: not volume_file(cluster).parent.exists())
                eventually("the end of the reservation", lambda: not reserved(cluster))
            else:
                assert eventually("the file", lambda: volume_file(cluster).read_text()) == "kept\n"
                assert reserved(cluster)["cpus"] == stateful.AMOUNTS["cpus"]
                (agent,) = cluster.agents()
                (full,) = agent["reserved_resources_full"].values()
                ids = [r["disk"]["persistence"]["id"] for r in full if "disk" in r]
                assert ids == [stateful.VOLUME]

        stateful.drill(cluster.master, restart, check)


@pytest.fixture(scope="module")
def bare():
    with Cluster(master_flags={"without": "marathon,metronome"}) as cluster:
        yield cluster


def call(cluster, kind, **fields):
    master = differential.Master(cluster.master)
    answer, text = master.ask(
        "POST", "/api/v1", {"type": kind, kind.lower(): fields}, differential.JSON)
    return answer.status, text.decode()


def pending(cluster):
    """Operations that the agent has not made durable yet: 202 only promises that it was asked."""
    answer, text = differential.Master(cluster.master).ask(
        "POST", "/api/v1", {"type": "GET_OPERATIONS"}, differential.JSON)
    assert answer.status == 200
    return json.loads(text)["get_operations"].get("operations", [])


def without_allocation(resource):
    return {key: value for key, value in resource.items() if key != "allocation_info"}


def test_operators_reserve_make_and_resize_volumes(bare):
    (agent,) = bare.agents()
    agent_id = {"value": agent["id"]}
    disk = without_allocation(stateful.scalar("disk", 32.0))
    volume = without_allocation(stateful.volume())
    path = volume_file(bare).parent
    assert call(bare, "RESERVE_RESOURCES", agent_id=agent_id, resources=[disk]) == (202, "")
    assert call(bare, "CREATE_VOLUMES", agent_id=agent_id, volumes=[volume]) == (202, "")
    eventually("the volume", path.is_dir)
    (path / "file").write_text("kept")
    more = without_allocation(stateful.scalar("disk", 8.0))
    assert call(bare, "GROW_VOLUME", agent_id=agent_id, volume=volume, addition=more) == (202, "")
    grown = {**volume, "scalar": {"value": 24.0}}
    assert call(bare, "SHRINK_VOLUME", agent_id=agent_id, volume=grown, subtract={"value": 8.0}) == (202, "")
    status, text = call(bare, "UNRESERVE_RESOURCES", agent_id=agent_id, resources=[disk])
    assert status == 409 and "does not contain" in text
    eventually("the agent's word on all of it", lambda: not pending(bare))
    (before,) = bare.agents()
    bare.agent_program.kill()
    bare.agent_program.start()

    def is_back():
        return [one for one in active(bare) if one.get("reregistered_time") != before.get("reregistered_time")]

    eventually("the agent's return", is_back)
    assert reserved(bare)["disk"] == 32.0
    assert (path / "file").read_text() == "kept"
    assert call(bare, "DESTROY_VOLUMES", agent_id=agent_id, volumes=[volume]) == (202, "")
    eventually("the end of the volume", lambda: not path.exists())
    form = urllib.parse.urlencode({"slaveId": agent["id"], "resources": json.dumps([disk])})
    request = urllib.request.Request(f"http://{bare.master}/unreserve", form.encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 202
    eventually("the end of the reservation", lambda: not reserved(bare))


def test_operations_with_an_id_are_told_until_acknowledged(bare):
    master = differential.Master(bare.master)
    subscribe = {"type": "SUBSCRIBE", "subscribe": {"framework_info": stateful.FRAMEWORK}}
    stream = differential.Stream(master, "/api/v1/scheduler", subscribe, differential.JSON)
    framework = stream.event()["subscribed"]["framework_id"]
    offer = stream.until("OFFERS")["offers"]["offers"][0]
    headers = {**differential.JSON, "Mesos-Stream-Id": stream.stream_id}

    def say(kind, **fields):
        answer, text = master.ask("POST", "/api/v1/scheduler", {
            "type": kind, "framework_id": framework, kind.lower(): fields}, headers)
        assert answer.status == 202, text

    say("ACCEPT", offer_ids=[offer["id"]], operations=[
        stateful.operation("RESERVE", "good", resources=[stateful.scalar("cpus", 1.0)]),
        stateful.operation("RESERVE", "bad", resources=[stateful.scalar("cpus", 1.0, reserved=False)]),
    ], filters={"refuse_seconds": 0.1})
    told = {}
    while len(told) < 2:
        status = stream.until("UPDATE_OPERATION_STATUS")["update_operation_status"]["status"]
        told[status["operation_id"]["value"]] = status
    assert told["bad"]["state"] == "OPERATION_ERROR"
    assert "is not dynamically reserved" in told["bad"]["message"]
    good = told["good"]
    assert good["state"] == "OPERATION_FINISHED" and good["agent_id"] == offer["agent_id"]
    status, text = call(bare, "GET_OPERATIONS")
    (listed,) = json.loads(text)["get_operations"]["operations"]
    assert listed["latest_status"]["state"] == "OPERATION_FINISHED"
    say("ACKNOWLEDGE_OPERATION_STATUS", agent_id=good["agent_id"], uuid=good["uuid"]["value"],
        operation_id=good["operation_id"])
    eventually("no operation is left", lambda: json.loads(
        call(bare, "GET_OPERATIONS")[1])["get_operations"] == {})
    say("RECONCILE_OPERATIONS", operations=[{"operation_id": {"value": "good"}, "agent_id": offer["agent_id"]}])
    status = stream.until("UPDATE_OPERATION_STATUS")["update_operation_status"]["status"]
    assert status["state"] == "OPERATION_UNKNOWN"
    say("TEARDOWN")
    stream.close()
    cpus = without_allocation(stateful.scalar("cpus", 1.0))
    agent_id = {"value": active(bare)[0]["id"]}
    assert call(bare, "UNRESERVE_RESOURCES", agent_id=agent_id, resources=[cpus]) == (202, "")
