"""A master with a framework, a quota and operations counts what an original Mesos 1.11 counts, under the same names.

`python test_metrics.py` records the original anew.
"""

import json
import re
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from cluster import Cluster, eventually, free_port, get

RECORDED = Path(__file__).parent / "recorded" / "mesos-1.11-metrics.json"
# The registry is no replicated log; the recording has the agent in the master's process; the root of all roles has no quota;
# messages of drivers are not counted by principal.
ABSENT = ("registrar/log/", "allocator/mesos/quota/roles//", "frameworks/p/messages_", "slave/", "containerizer/", "gc/", "fetcher/", "resource_provider_manager/", "garbage_")
# What depends on when one looks, or on the machine.
VARYING = ("_ms", "/events", "/calls", "offers", "allocation_run", "event_queue", "system/", "_secs", "registry_size",
           "messages_", "allocator/mesos/offer_filters", "http_cache", "master/slave_", "recovered", "queued")


def post(url: str, body: Any, headers: dict[str, str] | None = None):
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})
    return urllib.request.urlopen(request, timeout=180)


def records(stream):
    while line := stream.readline():
        yield json.loads(stream.read(int(line)))


def play(master: str) -> dict[str, float]:
    """What the metrics of `master` say after a little history. Names of the framework are the same every time."""
    url = f"http://{master}"
    quota = {"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [{
        "role": "eng", "guarantees": {"cpus": {"value": 2}}, "limits": {"cpus": {"value": 8}, "mem": {"value": 4096}}}]}}
    post(f"{url}/api/v1", quota).close()
    info = {"user": "root", "name": "a b", "roles": ["eng", "ops/dev"], "capabilities": [
        {"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}], "failover_timeout": 60, "principal": "p"}
    subscribe = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info, "suppressed_roles": ["ops/dev"]}}
    with post(f"{url}/api/v1/scheduler", subscribe) as stream:
        session, events = stream.headers["Mesos-Stream-Id"], records(stream)
        framework = next(events)["subscribed"]["framework_id"]

        def call(kind: str, **fields: Any) -> None:
            body = {"type": kind, "framework_id": framework, **fields}
            post(f"{url}/api/v1/scheduler", body, {"Mesos-Stream-Id": session}).close()

        offers = next(event["offers"]["offers"] for event in events if event["type"] == "OFFERS")
        reserved = [{"name": "mem", "type": "SCALAR", "scalar": {"value": 64}, "allocation_info": {"role": "eng"},
                     "reservations": [{"type": "DYNAMIC", "role": "eng", "principal": "p"}]}]
        call("ACCEPT", accept={"offer_ids": [offers[0]["id"]], "filters": {"refuse_seconds": 600}, "operations": [
            {"type": "RESERVE", "reserve": {"resources": reserved}}]})
        name = f"master/frameworks/a%20b/{framework['value']}/operations"

        def settled() -> dict[str, float] | None:
            metrics = get(f"{url}/metrics/snapshot")
            awaited = {
                name: 1, "master/operations/reserve/finished": 1, "allocator/mesos/offer_filters/roles/eng/active": 1,
                # What is left of the agent, and what is reserved on it, is offered next.
                "master/outstanding_offers": 1, "allocator/mesos/roles/eng/shares/dominant": 1,
            }
            return metrics if all(metrics.get(name) == value for name, value in awaited.items()) else None

        metrics = eventually("the operation, the refusal and another offer", settled)
        call("TEARDOWN")
    return {re.sub(re.escape(framework["value"]), "FRAMEWORK", name): value for name, value in metrics.items()}


def test_names_and_numbers():
    recorded = json.loads(RECORDED.read_text())
    with Cluster(master_flags={"only": "master"}) as cluster:
        ours = play(cluster.master)
    assert [name for name in recorded if name not in ours and not name.startswith(ABSENT)] == []
    differing = {name: (value, ours[name]) for name, value in recorded.items()
                 if name in ours and value != ours[name] and not any(part in name for part in VARYING)}
    assert differing == {}


def record() -> None:
    from original import Original, remove

    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="dcos-conformance-"))
    master = Original(folder, port, num_slaves="1").start()
    try:
        eventually("an agent", lambda: get(f"http://127.0.0.1:{port}/slaves")["slaves"])
        metrics = play(f"127.0.0.1:{port}")
    finally:
        master.kill()
        remove(folder)
    RECORDED.write_text(json.dumps(dict(sorted(metrics.items())), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(record())
