"""The unmodified PyPI client `marathon` on our Marathon: an app's life from create to delete."""

import pytest
import requests
from cluster import eventually
from marathon import MarathonApp, MarathonClient
from marathon.exceptions import MarathonHttpError, NotFoundError


@pytest.fixture
def client(cluster):
    client = MarathonClient(cluster.marathon)
    eventually("Marathon's answer", lambda: client.ping() is not None)
    return client


def running(client: MarathonClient, app_id: str) -> int:
    return client.get_app(app_id).tasks_running


def idle(client: MarathonClient) -> bool:
    return not client.list_deployments()


def test_an_apps_life(client):
    app = MarathonApp(cmd="sleep 600", cpus=0.1, mem=32, instances=1)
    created = client.create_app("/conformance/sleeper", app)
    assert created.id == "/conformance/sleeper"
    eventually("one running task", lambda: running(client, app_id) == 1 if (app_id := created.id) else 0)

    client.scale_app(created.id, instances=10)
    eventually("ten running tasks", lambda: running(client, created.id) == 10 and idle(client))
    assert len(client.list_tasks(created.id)) == 10

    client.scale_app(created.id, instances=3)
    eventually("three running tasks", lambda: running(client, created.id) == 3 and idle(client))

    before = {task.id for task in client.list_tasks(created.id)}
    client.update_app(created.id, MarathonApp(cmd="sleep 700"))
    eventually("the rolling update", lambda: idle(client) and running(client, created.id) == 3)
    after = {task.id for task in client.list_tasks(created.id)}
    assert len(after) == 3 and not before & after
    assert len(client.list_versions(created.id)) >= 2

    client.delete_app(created.id)
    eventually("the deletion", lambda: idle(client))
    with pytest.raises(NotFoundError):
        client.get_app(created.id)


def test_groups(client):
    from marathon.models import MarathonGroup

    apps = [MarathonApp(id="a", cmd="sleep 600", cpus=0.1, mem=32, instances=1)]
    client.create_group(MarathonGroup(id="/conformance/group", apps=apps))
    eventually("the group's app", lambda: running(client, "/conformance/group/a") == 1)
    client.delete_group("/conformance/group", force=True)
    eventually("the deletion", lambda: idle(client))


def test_bad_apps_are_refused(cluster, client):
    # The client checks ids itself, so a bad one is sent without it.
    answer = requests.post(f"{cluster.marathon}/v2/apps", json={"id": "/Bad_Name", "cmd": "true"}, timeout=60)
    assert answer.status_code == 422
    assert answer.json()["details"][0]["path"] == "/id"
    with pytest.raises(MarathonHttpError) as refusal:
        client.create_app("/conformance/both", MarathonApp(cmd="true", args=["true"], cpus=0.1, mem=32))
    assert refusal.value.status_code == 422
    with pytest.raises(NotFoundError):
        client.get_app("/conformance/none")
