"""Apps that keep their data: reservations and volumes on a whole cluster, over failures, upgrades and crashes."""

import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cluster import Cluster, eventually
from test_marathon_api import Api

DB = {
    "id": "/team/db", "role": "team", "cpus": 0.1, "mem": 32, "instances": 1, "backoffSeconds": 1,
    "cmd": "echo $MESOS_TASK_ID >> data/tasks && exec sleep 1000",
    "container": {"type": "MESOS", "volumes": [
        {"containerPath": "data", "mode": "RW", "persistent": {"size": 16}}]},
}


@pytest.fixture(scope="module")
def cluster():
    flags = {"launcher": "posix", "isolation": "posix/cpu,posix/mem,filesystem/posix"}
    with Cluster(agent_flags=flags) as cluster:
        yield cluster


@pytest.fixture
def api(cluster):
    api = Api(cluster)
    eventually("Marathon's answer", lambda: api("GET", "/v2/apps"))
    yield api
    api("DELETE", "/v2/groups?force=true")
    api.idle()
    eventually("nothing stays reserved", lambda: not reserved(cluster))


def reserved(cluster):
    return [role for agent in cluster.agents() for role in agent["reserved_resources_full"]]


def volumes(cluster):
    """The folders of all volumes on the agent."""
    return sorted(Path(cluster.folder, "agent", "volumes").glob("roles/*/*"))


def running(api, app_id="/team/db", count=1):
    def ready():
        app = api.app(app_id)
        return app if app["tasksRunning"] == count and not app["deployments"] else None
    return eventually(f"{count} running", ready)


def test_data_outlives_tasks_and_upgrades(api, cluster):
    created = api("POST", "/v2/apps", DB)
    assert created["residency"]["taskLostBehavior"] == "WAIT_FOREVER"
    assert created["upgradeStrategy"] == {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0}
    assert created["unreachableStrategy"] == "disabled"
    [first] = running(api)["tasks"]
    [volume] = first["localVolumes"]
    assert volume["containerPath"] == "data" and volume["runSpecId"] == "/team/db"
    [folder] = volumes(cluster)
    assert folder.name == volume["persistenceId"]

    api("DELETE", f"/v2/apps/team/db/tasks/{first['id']}")
    def again():
        tasks = [task for task in running(api)["tasks"] if task["id"] != first["id"]]
        return tasks and tasks[0]
    second = eventually("the next task", again)
    assert second["id"].endswith("._app.2") and second["localVolumes"] == [volume]

    api("PUT", "/v2/apps/team/db", {"env": {"VERSION": "2"}})
    api.idle()
    [third] = running(api)["tasks"]
    assert third["localVolumes"] == [volume]
    all_three = [first["id"], second["id"], third["id"]]
    eventually("all three wrote to the same volume", lambda: (folder / "tasks").read_text().split() == all_three)

    cluster.master_program.kill()
    cluster.master_program.start()
    eventually("the same task", lambda: [t["id"] for t in api.app("/team/db")["tasks"]] == [third["id"]])
    with pytest.raises(urllib.error.HTTPError) as refused:
        api("PUT", "/v2/apps/team/db", {"cpus": 0.2})
    assert refused.value.code == 422
    # A kill that comes before the task is known again is only repeated half a minute later.
    eventually("the agent's return", cluster.agents)


def test_scaling_down_keeps_and_wiping_destroys(api, cluster):
    api("POST", "/v2/apps", {**DB, "instances": 2})
    running(api, count=2)
    before = volumes(cluster)
    assert len(before) == 2
    api("PUT", "/v2/apps/team/db", {"instances": 1})
    api.idle()
    running(api, count=1)
    assert volumes(cluster) == before
    api("PUT", "/v2/apps/team/db", {"instances": 2})
    api.idle()
    tasks = running(api, count=2)["tasks"]
    assert volumes(cluster) == before, "it comes back to what was kept"

    victim = tasks[0]
    [gone] = victim["localVolumes"]
    api("DELETE", f"/v2/apps/team/db/tasks/{victim['id']}?wipe=true")
    def replaced():
        names = [folder.name for folder in volumes(cluster)]
        return len(names) == 2 and gone["persistenceId"] not in names
    eventually("a new volume in place of the old one", replaced)
    running(api, count=2)


def test_a_framework_that_was_ended_comes_back_to_its_data(api, cluster):
    api("POST", "/v2/apps", DB)
    [first] = running(api)["tasks"]
    [folder] = volumes(cluster)
    before = api("GET", "/v2/info")["frameworkId"]
    form = f"frameworkId={before}".encode()
    with urllib.request.urlopen(f"http://{cluster.master}/teardown", form, timeout=60) as response:
        assert response.status == 200
    def another():
        tasks = [task for task in running(api)["tasks"] if task["id"] != first["id"]]
        return api("GET", "/v2/info")["frameworkId"] != before and tasks
    [second] = eventually("the app under another framework", another)
    assert second["localVolumes"] == first["localVolumes"]
    eventually("both wrote there", lambda: (folder / "tasks").read_text().split() == [first["id"], second["id"]])
    assert volumes(cluster) == [folder]


def test_what_cannot_be(api):
    def refused(change):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            api("POST", "/v2/apps", {**DB, **change})
        return refusal.value.code
    assert refused({"role": "*"}) == 422
    assert refused({"upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1}}) == 422
    assert refused({"unreachableStrategy": {"inactiveAfterSeconds": 1, "expungeAfterSeconds": 2}}) == 422


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_a_volume_of_a_driver_goes_with_its_app(tmp_path):
    external = {"name": "v", "provider": "dvdi", "options": {"dvdi/driver": "loop", "dvdi/size": "8MB"}}
    app = {
        "id": "/ledger", "cpus": 0.1, "mem": 32, "cmd": "echo one >> data/log; exec sleep 1000",
        "container": {"type": "MESOS", "volumes": [{"containerPath": "data", "mode": "RW", "external": external}]},
    }
    # With the isolation that an agent has by default as root.
    with Cluster(
        agent_flags={"loop_volumes_dir": tmp_path / "volumes"},
        master_flags={"marathon_enable_features": "external_volumes"},
    ) as cluster:
        api = Api(cluster)
        eventually("Marathon's answer", lambda: api("GET", "/v2/apps"))
        created = api("POST", "/v2/apps", app)
        assert created["upgradeStrategy"] == {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0}
        [first] = running(api, "/ledger")["tasks"]
        eventually("its word", lambda: [log.read_text() for log in (tmp_path / "volumes/mounts").rglob("log")] == ["one\n"])
        # The first task is gone before the second one has the volume, and finds what it wrote.
        api("PUT", "/v2/apps//ledger", {"cmd": "[ $(cat data/log) = one ] && exec sleep 1000"})
        [second] = running(api, "/ledger")["tasks"]
        assert second["id"] != first["id"]
        with pytest.raises(urllib.error.HTTPError) as refusal:
            api("PUT", "/v2/apps//ledger", {"instances": 2})
        assert refusal.value.code == 422
        api("DELETE", "/v2/apps//ledger")
        api.idle()
        eventually("the end of the mount", lambda: not list((tmp_path / "volumes/mounts").iterdir()))


@pytest.mark.skipif(os.geteuid() != 0, reason="control groups and mounts need root")
def test_a_pods_volume_outlives_its_containers():
    pod = {
        "id": "/team/store", "role": "team", "volumes": [{"name": "kept", "persistent": {"size": 16}}],
        "scheduling": {"backoff": {"backoff": 1}},
        "containers": [{
            "name": "db", "resources": {"cpus": 0.1, "mem": 32},
            "exec": {"command": {"shell": "echo $MESOS_TASK_ID >> data/tasks; exec sleep 1000"}},
            "volumeMounts": [{"name": "kept", "mountPath": "data"}],
        }],
    }
    with Cluster() as cluster:
        api = Api(cluster)
        eventually("Marathon's answer", lambda: api("GET", "/v2/apps"))
        api("POST", "/v2/pods", pod)

        def wrote(count):
            def stable():
                told = api("GET", "/v2/pods/team/store::status")
                lines = [task for folder in volumes(cluster) for task in (folder / "tasks").read_text().split()]
                return told["status"] == "STABLE" and len(lines) == count and told["instances"]
            [instance] = eventually(f"{count} containers, one after the other", stable)
            api.idle()
            return instance["id"]

        first = wrote(1)
        api("DELETE", f"/v2/pods/team/store::instances/{first}")
        assert wrote(2) == first
        api("PUT", "/v2/pods/team/store", {**pod, "environment": {"VERSION": "2"}})
        assert wrote(3) == first
        cluster.agent_program.kill()
        cluster.start_agent()
        assert wrote(3) == first
        api("DELETE", "/v2/pods/team/store")
        eventually("nothing stays reserved", lambda: not reserved(cluster) and not volumes(cluster))
