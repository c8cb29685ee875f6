"""What operators order, good and bad, of any master with one agent; what it answers, made comparable.

`python differential_orders.py HOST:PORT FILE` records the answers: that is how
`recorded/mesos-1.11-orders.json` was made from an original master and its agent.
Answers to reads are compared whole, but for ids and times.
"""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

from differential import FRAMEWORK, JSON, UUID, Master, Stream

DAY = 86_400_000_000_000


def shown(answer: Any, text: bytes, ids: dict[str, str]) -> dict:
    body = text.decode(errors="replace")
    for name, value in sorted(ids.items(), key=lambda item: -len(item[1])):
        body = body.replace(value, f"<{name}>")
    body = UUID.sub("<uuid>", body)
    record: dict[str, Any] = {"status": answer.status}
    try:
        record["json"] = json.loads(body) if body else None
    except ValueError:
        record["text"] = body
    if allow := answer.getheader("Allow"):
        record["Allow"] = allow
    return record


class Orders:
    """Notes what a master answers."""

    def __init__(self, address: str) -> None:
        self.master = Master(address)
        self.ids: dict[str, str] = {}
        self.records: dict[str, Any] = {}

    def http(self, name: str, method: str, path: str, body: Any = None, note: bool = True) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        answer, text = self.master.ask(method, path, body, headers)
        record = shown(answer, text, self.ids)
        if note:
            assert name not in self.records, name
            self.records[name] = record
        return record

    def v1(self, name: str, kind: str, field: Any = None, **more: Any) -> Any:
        call = {"type": kind, **more}
        if field is not None:
            call[kind.lower()] = field
        answer, text = self.master.ask("POST", "/api/v1", call, JSON)
        assert name not in self.records, name
        self.records[name] = shown(answer, text, self.ids)
        return self.records[name]


def quota(orders: Orders) -> None:
    def scalars(**amounts: float) -> dict:
        return {name: {"value": value} for name, value in amounts.items()}

    def update(name: str, *configs: dict, force: bool | None = None) -> None:
        field: dict[str, Any] = {"quota_configs": list(configs)}
        if force is not None:
            field["force"] = force
        orders.v1(f"update quota: {name}", "UPDATE_QUOTA", field)

    def config(role: str, guarantees: dict | None = None, limits: dict | None = None) -> dict:
        return {"role": role, "guarantees": scalars(**(guarantees or {})), "limits": scalars(**(limits or {}))}

    orders.v1("quota: none yet", "GET_QUOTA")
    orders.http("quota: none yet, v0", "GET", "/quota")
    orders.v1("update quota: without update_quota", "UPDATE_QUOTA")
    update("no configs")
    update("no role", {"guarantees": scalars(cpus=1)})
    update("nested role", config("a/b", {"cpus": 1}))
    update("invalid role", config("-a", {"cpus": 1}))
    update("role with a space", config("a b", {"cpus": 1}))
    update("empty role", config("", {"cpus": 1}))
    update("guarantee above limit", config("a", {"cpus": 2}, {"cpus": 1}))
    update("negative guarantee", config("a", {"cpus": -1}))
    update("negative limit", config("a", {}, {"mem": -1}))
    update("exabytes", config("a", {"mem": 2e12}))
    update("trillions", config("a", {}, {"cpus": 2e12}))
    update("too much", config("a", {"cpus": 1000}))
    update("too much together", config("a", {"cpus": 10}), config("b", {"cpus": 10}))
    update("one of two is bad", config("a", {"cpus": 1}), config("a/b", {"cpus": 1}))
    orders.v1("quota: still none", "GET_QUOTA")
    update("too much, forced", config("forced", {"cpus": 1000}, {"cpus": 2000}), force=True)
    update("again, less", config("forced", {"cpus": 1}, {"cpus": 2, "mem": 0}))
    update("limit only", config("limited", {}, {"cpus": 1.5, "mem": 64}))
    orders.v1("quota: two", "GET_QUOTA")
    orders.http("quota: two, v0", "GET", "/quota")
    orders.http("roles with quota", "GET", "/roles")
    orders.v1("roles with quota, v1", "GET_ROLES")

    def request(name: str, body: Any) -> None:
        orders.http(f"set quota: {name}", "POST", "/quota", body)

    def resource(name: str, value: float, **more: Any) -> dict:
        return {"name": name, "type": "SCALAR", "scalar": {"value": value}, **more}

    request("no role", {"guarantee": [resource("cpus", 1)]})
    request("no guarantee", {"role": "old"})
    request("invalid role", {"role": "-old", "guarantee": [resource("cpus", 1)]})
    request("nested role", {"role": "old/er", "guarantee": [resource("cpus", 1)]})
    request("twice the same", {"role": "old", "guarantee": [resource("cpus", 1), resource("cpus", 2)]})
    request("ranges", {"role": "old", "guarantee": [
        {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 2}]}}]})
    request("revocable", {"role": "old", "guarantee": [resource("cpus", 1, revocable={})]})
    request("disk info", {"role": "old", "guarantee": [
        resource("disk", 1, disk={"persistence": {"id": "x"}})]})
    request("negative", {"role": "old", "guarantee": [resource("cpus", -1)]})
    request("too much", {"role": "old", "guarantee": [resource("cpus", 1000)]})
    request("good", {"role": "old", "guarantee": [resource("cpus", 1), resource("mem", 32)]})
    request("twice", {"role": "old", "guarantee": [resource("cpus", 1)]})
    request("forced", {"role": "older", "force": True, "guarantee": [resource("cpus", 1000)]})
    orders.v1("quota: four", "GET_QUOTA")
    orders.http("quota: PUT", "PUT", "/quota", {})
    orders.http("remove quota: no role", "DELETE", "/quota")
    orders.http("remove quota: unknown role", "DELETE", "/quota/unknown")
    orders.http("remove quota: unknown role, under /master", "DELETE", "/master/quota/unknown")
    orders.http("remove quota", "DELETE", "/quota/old")
    orders.http("remove quota again", "DELETE", "/quota/old")
    orders.http("remove quota: older", "DELETE", "/master/quota/older")
    orders.http("remove quota: forced", "DELETE", "/quota/forced")
    orders.http("remove quota: limited", "DELETE", "/quota/limited")
    orders.v1("quota: none any more", "GET_QUOTA")
    orders.v1("set quota: v1", "SET_QUOTA", {"quota_request": {"role": "v1", "guarantee": [resource("cpus", 1)]}})
    orders.v1("set quota: without set_quota", "SET_QUOTA")
    # Without a quota to remove, the original ends itself.
    orders.v1("remove quota: v1", "REMOVE_QUOTA", {"role": "v1"})
    orders.v1("remove quota: without remove_quota", "REMOVE_QUOTA")


def weights(orders: Orders) -> None:
    def update(name: str, infos: Any) -> None:
        orders.v1(f"update weights: {name}", "UPDATE_WEIGHTS", {"weight_infos": infos})

    orders.v1("weights: none yet", "GET_WEIGHTS")
    orders.v1("update weights: without update_weights", "UPDATE_WEIGHTS")
    update("none", [])
    update("zero", [{"role": "a", "weight": 0}])
    update("negative", [{"role": "a", "weight": -2.5}])
    update("no role", [{"weight": 2}])
    update("no weight", [{"role": "a"}])
    update("bad role", [{"role": "a/", "weight": 2}])
    update("one of two is bad", [{"role": "a", "weight": 2}, {"role": "b", "weight": 0}])
    update("good", [{"role": " a ", "weight": 2.5}, {"role": "b/c", "weight": 3}])
    orders.v1("weights: two", "GET_WEIGHTS")
    orders.http("weights: two, v0", "GET", "/weights")
    orders.http("weights: POST", "POST", "/weights", [])
    orders.http("weights: PUT of an object", "PUT", "/weights", {})
    orders.http("weights: PUT of nonsense", "PUT", "/weights", "nonsense")
    orders.http("weights: PUT of zero", "PUT", "/weights", [{"role": "a", "weight": 0}])
    orders.http("weights: PUT", "PUT", "/weights", [{"role": "a", "weight": 4}])
    orders.http("weights: after PUT", "GET", "/weights")
    orders.http("roles with weights", "GET", "/roles")


def maintenance(orders: Orders) -> None:
    machine = {"hostname": "far", "ip": "10.1.2.3"}
    absence = {"start": {"nanoseconds": 10 * DAY}, "duration": {"nanoseconds": DAY}}

    def update(name: str, *windows: Any) -> None:
        schedule = {"windows": list(windows)}
        orders.http(f"schedule: {name}", "POST", "/maintenance/schedule", schedule)

    def window(*machines: dict, unavailability: dict = absence) -> dict:
        return {"machine_ids": list(machines), "unavailability": unavailability}

    orders.http("schedule: none yet", "GET", "/maintenance/schedule")
    orders.v1("schedule: none yet, v1", "GET_MAINTENANCE_SCHEDULE")
    orders.http("maintenance: none yet", "GET", "/maintenance/status")
    orders.v1("maintenance: none yet, v1", "GET_MAINTENANCE_STATUS")
    orders.http("schedule: PUT", "PUT", "/maintenance/schedule", {})
    orders.http("maintenance: POST", "POST", "/maintenance/status", {})
    orders.http("machine down: GET", "GET", "/machine/down")
    orders.http("schedule: nonsense", "POST", "/maintenance/schedule", "nonsense")
    orders.http("machine down: nonsense", "POST", "/machine/down", "nonsense")
    update("no machines", window())
    update("machine without anything", window({}))
    update("machine with a bad ip", window({"hostname": "x", "ip": "nowhere"}))
    update("machine twice", window(machine, machine))
    update("machine twice, other case", window(machine, {"hostname": "FAR", "ip": "10.1.2.3"}))
    update("machine in two windows", window(machine), window(machine))
    update("negative duration", window(machine, unavailability={
        "start": {"nanoseconds": DAY}, "duration": {"nanoseconds": -1}}))
    update("no start", window(machine, unavailability={}))
    update("no unavailability", {"machine_ids": [machine]})
    orders.http("machine down: none", "POST", "/machine/down", [])
    orders.http("machine down: not scheduled", "POST", "/machine/down", [machine])
    orders.http("machine up: not scheduled", "POST", "/machine/up", [machine])
    orders.http("machine down: not a machine", "POST", "/machine/down", [{"ip": "x"}])
    update("good", window(machine, {"hostname": "near"}), window(
        {"ip": "10.1.2.4"}, unavailability={"start": {"nanoseconds": DAY}}))
    orders.http("schedule: good, read", "GET", "/maintenance/schedule")
    orders.v1("schedule: good, read by v1", "GET_MAINTENANCE_SCHEDULE")
    status = orders.http("maintenance: draining", "GET", "/maintenance/status")
    status["json"]["draining_machines"].sort(key=json.dumps)
    orders.http("machine up: not down", "POST", "/machine/up", [machine])
    orders.http("machine down", "POST", "/machine/down", [machine])
    orders.http("machine down again", "POST", "/machine/down", [machine])
    status = orders.http("maintenance: one down", "GET", "/maintenance/status")
    status["json"]["draining_machines"].sort(key=json.dumps)
    update("without what is down", window({"hostname": "near"}))
    update("with what is down", window({"hostname": "near"}, machine))
    orders.v1("start maintenance: without start_maintenance", "START_MAINTENANCE")
    orders.v1("start maintenance: twice the same", "START_MAINTENANCE", {"machines": [machine, machine]})
    orders.v1("stop maintenance: without stop_maintenance", "STOP_MAINTENANCE")
    orders.v1("stop maintenance", "STOP_MAINTENANCE", {"machines": [machine]})
    orders.http("schedule: after up", "GET", "/maintenance/schedule")
    orders.v1("update schedule: without it", "UPDATE_MAINTENANCE_SCHEDULE")
    orders.v1("update schedule: empty", "UPDATE_MAINTENANCE_SCHEDULE", {"schedule": {}})
    orders.http("schedule: empty again", "GET", "/maintenance/schedule")
    orders.http("maintenance: nothing again", "GET", "/maintenance/status")


class Framework:
    """A subscribed framework."""

    def __init__(self, orders: Orders, **more: Any) -> None:
        self.orders, self.info = orders, {**FRAMEWORK, **more}
        self.info["capabilities"] = [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]
        self.stream = Stream(orders.master, "/api/v1/scheduler", {
            "type": "SUBSCRIBE", "subscribe": {"framework_info": self.info}}, JSON)
        self.id = self.stream.event()["subscribed"]["framework_id"]
        self.info["id"] = self.id
        orders.ids["framework"] = self.id["value"]

    def call(self, kind: str, **fields: Any) -> tuple[Any, bytes]:
        headers = {**JSON, "Mesos-Stream-Id": self.stream.stream_id or ""}
        call = {"type": kind, "framework_id": self.id, **fields}
        return self.orders.master.ask("POST", "/api/v1/scheduler", call, headers)

    def note(self, name: str, kind: str, **fields: Any) -> None:
        answer, text = self.call(kind, **fields)
        self.orders.records[name] = shown(answer, text, self.orders.ids)

    def next(self, *kinds: str) -> dict:
        while (event := self.stream.event())["type"] not in kinds:
            pass
        return event

    def launch(self, offer: dict, name: str, cpus: float = 0.1) -> None:
        resources = [{"name": kind, "type": "SCALAR", "scalar": {"value": value},
                      "allocation_info": offer["allocation_info"]} for kind, value in (("cpus", cpus), ("mem", 32.0))]
        task = {"task_id": {"value": name}, "agent_id": offer["agent_id"], "name": name, "resources": resources,
                "command": {"value": "sleep 600"}}
        answer, text = self.call("ACCEPT", accept={"offer_ids": [offer["id"]], "operations": [
            {"type": "LAUNCH", "launch": {"task_infos": [task]}}], "filters": {"refuse_seconds": 0.1}})
        assert answer.status == 202, text

    def updates(self, task: str, last: str) -> list[dict]:
        """States and reasons of a task until one of them, acknowledged."""
        seen: list[dict] = []
        while not seen or seen[-1]["state"] != last:
            status = self.next("UPDATE")["update"]["status"]
            if status["task_id"]["value"] != task:
                continue
            if "uuid" in status:
                self.call("ACKNOWLEDGE", acknowledge={"agent_id": status["agent_id"],
                                                      "task_id": status["task_id"], "uuid": status["uuid"]})
            seen.append({key: status.get(key) for key in ("state", "source", "reason")})
        return seen


def updating(orders: Orders) -> None:
    """UPDATE_FRAMEWORK."""
    framework = Framework(orders, roles=["one", "two"])
    framework.next("OFFERS")

    def update(what: str, suppressed: Any = None, constraints: Any = None, **changes: Any) -> None:
        field = {"framework_info": {**framework.info, **changes}}
        if suppressed is not None:
            field["suppressed_roles"] = suppressed
        if constraints is not None:
            field["offer_constraints"] = constraints
        framework.note(f"update framework: {what}", "UPDATE_FRAMEWORK", update_framework=field)

    framework.note("update framework: without it", "UPDATE_FRAMEWORK")
    framework.note("update framework: without info", "UPDATE_FRAMEWORK", update_framework={})
    update("another id", id={"value": "other"})
    update("another user", user="somebody")
    update("another principal", principal="somebody")
    update("checkpoint", checkpoint=True)
    update("bad role", roles=["-"])
    update("a role twice", roles=["one", "one"])
    update("suppressed foreign role", suppressed=["three"])
    update("constraints of a foreign role", constraints={"role_constraints": {"three": {"groups": []}}})
    update("constraints without groups", constraints={"role_constraints": {"one": {"groups": []}}})
    update("bad pattern", constraints={"role_constraints": {"one": {"groups": [{"attribute_constraints": [
        {"selector": {"attribute_name": "a"}, "predicate": {"text_matches": {"regex": "("}}}]}]}}})
    update("negative failover timeout", failover_timeout=-1)
    update("endless failover timeout", failover_timeout=1e300)
    update("filters of a foreign role", offer_filters={"three": {}})
    update("nothing")
    update("name and timeout", name="renamed", failover_timeout=30)
    update("suppressed", suppressed=["one", "two"])
    update("a role left", roles=["one"])
    update("constrained", roles=["one"], constraints={"role_constraints": {"one": {"groups": [
        {"attribute_constraints": [{"selector": {"attribute_name": "none"}, "predicate": {"exists": {}}}]}]}}})
    records = orders.v1("frameworks after updates", "GET_FRAMEWORKS")
    orders.records["frameworks after updates"] = [
        {key: known.get(key) for key in ("offer_constraints", "active", "connected")} | {
            key: known["framework_info"].get(key) for key in ("name", "roles", "failover_timeout", "user", "checkpoint")}
        for known in records["json"]["get_frameworks"]["frameworks"]]
    orders.http("", "POST", "/teardown", f"frameworkId={framework.id['value']}", note=False)
    framework.stream.close()


def inverse(orders: Orders) -> None:
    """Offers and inverse offers of an agent that will be away."""
    framework = Framework(orders, roles=["asked"])
    offer = framework.next("OFFERS")["offers"]["offers"][0]
    framework.launch(offer, "asked")
    orders.records["task before maintenance"] = framework.updates("asked", "TASK_RUNNING")[-1]
    agent = json.loads(orders.master.ask("GET", "/slaves")[1])["slaves"][0]
    machine = {"hostname": agent["hostname"], "ip": "127.0.0.1"}
    orders.http("schedule: the agent's machine", "POST", "/maintenance/schedule", {"windows": [
        {"machine_ids": [machine], "unavailability": {"start": {"nanoseconds": 2 * DAY}}}]})
    asked = framework.next("INVERSE_OFFERS")["inverse_offers"]["inverse_offers"]
    orders.records["inverse offer"] = {key: value for key, value in asked[0].items()
                                       if key in ("unavailability", "resources")} | {"keys": sorted(asked[0])}
    orders.v1("drain of a scheduled agent", "DRAIN_AGENT", {"agent_id": {"value": agent["id"]}})
    framework.note("accept inverse offers: without it", "ACCEPT_INVERSE_OFFERS")
    framework.note("accept inverse offers: unknown", "ACCEPT_INVERSE_OFFERS",
                   accept_inverse_offers={"inverse_offer_ids": [{"value": "x"}]})
    framework.note("decline inverse offers", "DECLINE_INVERSE_OFFERS", decline_inverse_offers={
        "inverse_offer_ids": [asked[0]["id"]], "filters": {"refuse_seconds": 0.1}})
    again = framework.next("INVERSE_OFFERS")["inverse_offers"]["inverse_offers"]
    status = orders.http("maintenance: declined", "GET", "/maintenance/status")
    for known in status["json"]["draining_machines"][0]["statuses"]:
        known["timestamp"] = "<time>"
    framework.note("accept inverse offers", "ACCEPT_INVERSE_OFFERS", accept_inverse_offers={
        "inverse_offer_ids": [again[0]["id"]], "filters": {"refuse_seconds": 100}})
    status = orders.http("maintenance: accepted", "GET", "/maintenance/status")
    for known in status["json"]["draining_machines"][0]["statuses"]:
        known["timestamp"] = "<time>"
    orders.http("schedule: the agent's machine stays", "POST", "/maintenance/schedule", {})
    framework.call("REVIVE")
    offer = framework.next("OFFERS")["offers"]["offers"][0]
    while "unavailability" in offer:
        offer = framework.next("OFFERS")["offers"]["offers"][0]
    orders.http("", "POST", "/teardown", f"frameworkId={framework.id['value']}", note=False)
    framework.stream.close()


def agents(orders: Orders) -> None:
    """Deactivate, drain, reactivate, mark gone. The last: afterwards there is no agent."""
    framework = Framework(orders, roles=["drained"])
    offer = framework.next("OFFERS")["offers"]["offers"][0]
    orders.ids["agent"] = offer["agent_id"]["value"]
    agent = {"agent_id": offer["agent_id"]}
    nobody = {"agent_id": {"value": "nobody"}}
    for kind in ("DRAIN_AGENT", "DEACTIVATE_AGENT", "REACTIVATE_AGENT", "MARK_AGENT_GONE"):
        words = kind.lower().replace("_", " ")
        orders.v1(f"{words}: without it", kind)
        orders.v1(f"{words}: unknown", kind, nobody)
        orders.v1(f"{words}: no id", kind, {})
    orders.v1("reactivate: active", "REACTIVATE_AGENT", agent)
    orders.v1("deactivate", "DEACTIVATE_AGENT", agent)
    orders.records["event after deactivation"] = framework.next("RESCIND", "OFFERS")["type"]
    orders.v1("deactivate again", "DEACTIVATE_AGENT", agent)

    def view(name: str) -> None:
        known = json.loads(orders.master.ask("GET", "/slaves")[1])["slaves"]
        keys = ("active", "deactivated", "drain_info")
        orders.records[f"{name}: /slaves"] = [{key: one.get(key) for key in keys} for one in known]
        known = json.loads(orders.master.ask("POST", "/api/v1", {"type": "GET_AGENTS"}, JSON)[1])
        known = known["get_agents"].get("agents", [])
        orders.records[f"{name}: GET_AGENTS"] = [
            {key: one.get(key) for key in keys} | {"since": "estimated_drain_start_time" in one} for one in known]

    view("deactivated")
    orders.v1("reactivate", "REACTIVATE_AGENT", agent)
    view("reactivated")
    offer = framework.next("OFFERS")["offers"]["offers"][0]
    framework.launch(offer, "drained")
    orders.records["task before the drain"] = framework.updates("drained", "TASK_RUNNING")[-1]
    orders.v1("drain: grace in words", "DRAIN_AGENT", {**agent, "max_grace_period": "10mins"})
    orders.v1("drain: grace as duration info", "DRAIN_AGENT", {**agent, "max_grace_period": {"nanoseconds": 5}})
    orders.records["task that is drained"] = framework.updates("drained", "TASK_KILLED")[-1]
    settle(orders, "DRAINED")
    view("drained")
    orders.v1("reactivate: drained", "REACTIVATE_AGENT", agent)
    view("back in service")
    offer = framework.next("OFFERS")["offers"]["offers"][0]
    framework.launch(offer, "last")
    framework.updates("last", "TASK_RUNNING")
    orders.v1("drain: mark gone", "DRAIN_AGENT", {**agent, "max_grace_period": {"seconds": 1}, "mark_gone": True})
    orders.records["task of an agent that will be gone"] = framework.updates("last", "TASK_GONE_BY_OPERATOR")[-1]
    settle(orders, "")
    view("gone")
    orders.v1("drain: gone", "DRAIN_AGENT", agent)
    orders.v1("deactivate: gone", "DEACTIVATE_AGENT", agent)
    orders.v1("reactivate: gone", "REACTIVATE_AGENT", agent)
    orders.v1("mark gone: gone", "MARK_AGENT_GONE", agent)
    answer, text = framework.call("RECONCILE", reconcile={"tasks": [
        {"task_id": {"value": "unknown"}, "agent_id": agent["agent_id"]}]})
    assert answer.status == 202, text
    orders.records["task on a gone agent"] = framework.updates("unknown", "TASK_GONE_BY_OPERATOR")[-1]
    framework.stream.close()


def settle(orders: Orders, state: str) -> None:
    """Waits until the drain of the only agent has got there; or, for nothing, until it is gone."""
    for _ in range(1200):
        known = json.loads(orders.master.ask("GET", "/slaves")[1])["slaves"]
        if (not known and not state) or (known and known[0].get("drain_info", {}).get("state") == state):
            return
        time.sleep(0.1)
    raise AssertionError(f"not {state or 'gone'}: {known}")


def logging(orders: Orders) -> None:
    orders.v1("logging level", "GET_LOGGING_LEVEL")
    orders.v1("set logging level: without it", "SET_LOGGING_LEVEL")
    orders.v1("set logging level: without duration", "SET_LOGGING_LEVEL", {"level": 1})
    orders.v1("set logging level", "SET_LOGGING_LEVEL", {"level": 1, "duration": {"nanoseconds": 1_000_000_000}})
    orders.v1("logging level, set", "GET_LOGGING_LEVEL")
    orders.v1("set logging level: below", "SET_LOGGING_LEVEL", {"level": 0, "duration": {"nanoseconds": 1_000_000_000}})
    orders.v1("set logging level: above", "SET_LOGGING_LEVEL", {"level": 100, "duration": {"nanoseconds": 1_000_000}})
    time.sleep(1.5)
    orders.v1("logging level, back", "GET_LOGGING_LEVEL")


PARTS = (quota, weights, maintenance, updating, inverse, logging, agents)


def answers(address: str) -> dict[str, Any]:
    """What the master at `address` answers to every order."""
    orders = Orders(address)
    orders.ids["address"] = re.sub(r".*@", "", address)
    for part in PARTS:
        part(orders)
    return orders.records


if __name__ == "__main__":
    with open(sys.argv[2], "w") as file:
        json.dump(answers(sys.argv[1]), file, indent=1, sort_keys=True)
        file.write("\n")
