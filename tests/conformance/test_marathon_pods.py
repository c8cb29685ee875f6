"""Pods on a whole cluster: task groups on the executor of Mesos, their life from create to delete, and the command line."""

import json
import os
import subprocess
import threading
import urllib.error
import urllib.request

import pytest
from cluster import TASK_PORTS, binary, eventually
from test_marathon_api import Api

POD = {
    "id": "/team/pod",
    "labels": {"tier": "back"},
    "environment": {"SHARED": "yes"},
    "volumes": [{"name": "scratch"}],
    "containers": [
        {
            "name": "writer",
            "exec": {"command": {"shell": "env > data/writer && exec sleep 1000"}},
            "resources": {"cpus": 0.1, "mem": 32},
            "endpoints": [{"name": "web", "hostPort": 0}],
            "volumeMounts": [{"name": "scratch", "mountPath": "data"}],
        },
        {
            "name": "reader",
            "exec": {"command": {"shell": "exec sleep 1000"}},
            "resources": {"cpus": 0.1, "mem": 32},
            "healthCheck": {
                "exec": {"command": {"shell": "grep -q SHARED=yes data/writer"}},
                "intervalSeconds": 5, "timeoutSeconds": 4, "delaySeconds": 0, "gracePeriodSeconds": 60,
            },
            "volumeMounts": [{"name": "scratch", "mountPath": "data"}],
        },
    ],
}


@pytest.fixture
def api(cluster):
    api = Api(cluster)
    eventually("Marathon's answer", lambda: api("GET", "/v2/apps"))
    yield api
    api("DELETE", "/v2/groups?force=true")
    api.idle()


def status(api, pod_id="/team/pod"):
    return api("GET", f"/v2/pods{pod_id}::status")


def test_a_pods_life(api, cluster):
    created = api("POST", "/v2/pods", POD)
    assert created["scaling"] == {"kind": "fixed", "instances": 1} and created["version"]
    api.idle()
    stable = status(api)
    assert stable["status"] == "STABLE", stable
    [instance] = stable["instances"]
    assert instance["status"] == "STABLE"
    containers = {container["name"]: container for container in instance["containers"]}
    assert {container["status"] for container in containers.values()} == {"TASK_RUNNING"}
    [endpoint] = containers["writer"]["endpoints"]
    assert endpoint["allocatedHostPort"] in TASK_PORTS
    [condition] = containers["reader"]["conditions"]
    assert (condition["name"], condition["value"]) == ("healthy", "true"), "they share a volume and an environment"
    [framework] = cluster.state()["frameworks"]
    assert len({task["executor_id"] for task in framework["tasks"]}) == 1, "one executor for both"
    # Pods are not apps, and apps are not pods.
    assert api("GET", "/v2/apps")["apps"] == []
    assert [pod["id"] for pod in api("GET", "/v2/pods")] == ["/team/pod"]
    group = api("GET", "/v2/groups/team")
    assert [pod["id"] for pod in group["pods"]] == ["/team/pod"] and group["apps"] == []

    api("PUT", "/v2/pods/team/pod", {**POD, "scaling": {"kind": "fixed", "instances": 2}})
    api.idle()
    scaled = {each["id"] for each in status(api)["instances"]}
    assert instance["id"] in scaled and len(scaled) == 2, "scaling replaces nothing"

    api("PUT", "/v2/pods/team/pod", {**POD, "labels": {"tier": "front"}})
    api.idle()
    replaced = {each["id"] for each in status(api)["instances"]}
    assert len(replaced) == 1 and not replaced & scaled
    versions = api("GET", "/v2/pods/team/pod::versions")
    assert len(versions) == 3
    first = api("GET", f"/v2/pods/team/pod::versions/{versions[-1]}")
    assert first["labels"] == {"tier": "back"}

    [victim] = replaced
    killed = api("DELETE", f"/v2/pods/team/pod::instances/{victim}")
    assert killed["instanceId"] == victim
    def back():
        ids = [each["id"] for each in status(api)["instances"] if each["status"] == "STABLE"]
        return ids if len(ids) == 1 and ids != [victim] else None
    [successor] = eventually("a successor", back)
    killed = api("DELETE", "/v2/pods/team/pod::instances", [successor])
    assert [each["instanceId"] for each in killed] == [successor]

    api("DELETE", "/v2/pods/team/pod?force=true")
    api.idle()
    with pytest.raises(urllib.error.HTTPError) as gone:
        status(api)
    assert gone.value.code == 404
    eventually("all tasks end", lambda: not [t for f in cluster.state()["frameworks"] for t in f["tasks"]])


def test_a_container_that_fails_takes_the_others_along(api):
    pod = {
        "id": "/broken", "scheduling": {"backoff": {"backoff": 60}},
        "containers": [
            {"name": "good", "exec": {"command": {"shell": "sleep 1000"}}, "resources": {"cpus": 0.1, "mem": 32}},
            {"name": "bad", "exec": {"command": {"shell": "exit 3"}}, "resources": {"cpus": 0.1, "mem": 32}},
        ],
    }
    api("POST", "/v2/pods", pod)
    def ended():
        now = status(api, "/broken")
        return now if now["terminationHistory"] and not now["instances"] else None
    end = eventually("the end of the instance", ended)
    assert end["status"] == "DEGRADED"
    [history] = end["terminationHistory"]
    assert history["containers"][0]["lastKnownState"] == "TASK_FAILED"
    [waiting] = [item for item in api("GET", "/v2/queue")["queue"] if item.get("pod", {}).get("id") == "/broken"]
    assert waiting["delay"]["overdue"] is False


def test_a_pod_that_fits_nowhere(api):
    huge = {"id": "/huge", "containers": [{"name": "one", "resources": {"cpus": 1000, "mem": 32}}]}
    api("POST", "/v2/pods", huge)
    [deployment] = api("GET", "/v2/deployments")
    assert deployment["affectedPods"] == ["/huge"] and deployment["affectedApps"] == []
    [action] = deployment["currentActions"]
    assert (action["action"], action["pod"]) == ("ScalePod", "/huge")

    def refused():
        [item] = api("GET", "/v2/queue?embed=lastUnusedOffers")["queue"]
        assert item["pod"]["id"] == "/huge" and "app" not in item
        return [offer["reason"] for offer in item["lastUnusedOffers"]] == [["InsufficientCpus"]]

    eventually("a refusal", refused)
    with pytest.raises(urllib.error.HTTPError) as locked:
        api("PUT", "/v2/pods/huge", huge)
    assert locked.value.code == 409
    with pytest.raises(urllib.error.HTTPError) as taken:
        api("POST", "/v2/apps", {"id": "/huge", "cmd": "sleep 1000"})
    assert taken.value.code == 422
    api("DELETE", "/v2/pods/huge?force=true")


def test_a_crash_of_the_master_keeps_pods(api, cluster):
    api("POST", "/v2/pods", POD)
    api.idle()
    [before] = status(api)["instances"]
    cluster.master_program.kill()
    cluster.master_program.start()
    def same():
        now = status(api)
        return now["status"] == "STABLE" and [each["id"] for each in now["instances"]] == [before["id"]]
    eventually("the same instance", same)
    api("PUT", "/v2/pods/team/pod", {**POD, "environment": {"SHARED": "yes", "MORE": "1"}})
    api.idle()
    [after] = status(api)["instances"]
    assert after["id"] != before["id"]


def test_what_listeners_hear(api):
    heard, ready = [], threading.Event()
    stream = urllib.request.urlopen(f"{api.cluster.marathon}/v2/events", timeout=180)

    def listen():
        for line in stream:
            if line.startswith(b"event:"):
                heard.append(line.split(b":")[1].strip().decode())
                ready.set()

    threading.Thread(target=listen, daemon=True).start()
    assert ready.wait(120), "the stream tells of itself first"
    api("POST", "/v2/pods", {**POD, "id": "/heard"})
    api.idle()
    api("DELETE", "/v2/pods/heard")
    api.idle()
    wanted = {"pod_created_event", "pod_deleted_event", "instance_changed_event", "deployment_success",
              "instance_health_changed_event", "status_update_event"}
    eventually("all events", lambda: wanted <= set(heard))


def test_the_command_line(api, tmp_path):
    def dcos(*words):
        done = subprocess.run(
            [binary("dcos"), "--marathon", api.cluster.marathon, *words],
            env={**os.environ, "DCOS_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=180,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    file = tmp_path / "pod.json"
    file.write_text(json.dumps({**POD, "id": "/cli"}))
    dcos("marathon", "pod", "add", str(file))
    assert json.loads(dcos("marathon", "pod", "show", "/cli"))["status"] == "STABLE"
    listed = dcos("marathon", "pod", "list")
    assert "/cli" in listed and "|-writer" in listed and "STABLE" in listed
    file.write_text(json.dumps({**POD, "id": "/cli", "scaling": {"instances": 2}}))
    dcos("marathon", "pod", "update", "/cli", str(file))
    shown = json.loads(dcos("marathon", "pod", "show", "/cli"))
    assert len(shown["instances"]) == 2
    dcos("marathon", "pod", "kill", "/cli", shown["instances"][0]["id"])
    dcos("marathon", "pod", "remove", "/cli")
    assert "/cli" not in dcos("marathon", "pod", "list")
