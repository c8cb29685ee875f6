"""Pods, groups, deployments and what is known of them, on a whole cluster."""

import asyncio
import contextlib
import inspect
import json
import urllib.request

import pytest
from waiting import until

import dcos

APP = {"cmd": "sleep 600", "cpus": 0.1, "mem": 32}
HUGE = 100_000


@pytest.fixture(autouse=True)
def nothing_left(cluster):
    yield
    for deployment in cluster.deployments():
        with contextlib.suppress(dcos.NotFoundError):
            deployment.stop()
    for group in cluster.groups():
        if group.id == "/services":
            group.remove(force=True).wait(timeout=180)


def test_a_deployment_says_what_it_waits_for_and_is_taken_back(cluster):
    app = cluster.deploy({**APP, "id": "/services/stuck"}).wait(timeout=180)
    before = app.definition()
    app.update({"cpus": HUGE})

    def refused():
        (deployment,) = cluster.deployments()
        assert deployment.apps == ("/services/stuck",)
        return [one for action in deployment.actions for one in action.waiting_for if one.refused]

    (waiting,) = until("a refusal", refused)
    assert (waiting.what, waiting.count, waiting.refused) == ("offers", 1, {"InsufficientCpus": 1})
    (entry,) = cluster.queue()
    assert (entry.service, entry.pod, entry.count) == ("/services/stuck", False, 1)
    assert entry.refused["InsufficientCpus"] > 0
    assert "InsufficientCpus" in entry.last_refused[0].reasons
    (deployment,) = cluster.deployments()
    assert "offers (1 agents: InsufficientCpus)" in str(deployment)
    assert cluster.deployment(deployment.id).id == deployment.id
    if back := deployment.rollback():
        back.wait(timeout=180)
    app.wait(timeout=180)
    assert app.definition()["version"] == before["version"]
    assert deployment.refresh() is None
    for gone in (deployment.stop, deployment.rollback, lambda: cluster.deployment(deployment.id)):
        with pytest.raises(dcos.NotFoundError):
            gone()


@pytest.mark.parametrize("rollback", [False, True])
def test_a_deployment_without_success_ends_at_its_deadline(cluster, rollback):
    app = cluster.deploy({**APP, "id": "/services/huge", "cpus": HUGE}, deadline=10, rollback=rollback)
    (deployment,) = cluster.deployments()
    assert deployment.deadline is not None
    with pytest.raises(dcos.DeploymentError, match="its deadline has passed"):
        app.wait(timeout=180)
    if rollback:
        until("its end", lambda: "/services/huge" not in [one.id for one in cluster.apps()])
    else:
        assert app.definition()["cpus"] == HUGE, "it is wanted still"
    with pytest.raises(dcos.ApiError) as refusal:
        cluster.deploy({**APP, "id": "/services/never"}, deadline=0)
    assert refusal.value.status == 400


def test_versions_and_kills(cluster):
    app = cluster.deploy({**APP, "id": "/services/older"}).wait(timeout=180)
    app.update({"env": {"NEW": "1"}}).wait(timeout=180)
    newest, oldest = app.versions()
    assert app.definition(newest)["env"] == {"NEW": "1"}
    assert not app.definition(oldest).get("env")
    app.go_back(oldest).wait(timeout=180)
    assert not app.definition().get("env")

    def beside(*known):
        return [one["id"] for one in app.tasks() if one["id"] not in known and one["state"] == "TASK_RUNNING"]

    (first,) = beside()
    app.kill()
    (second,) = until("another task", lambda: beside(first))
    cluster.kill_tasks([second])
    (third,) = until("a third task", lambda: beside(first, second))
    if last := cluster.kill_tasks([third], scale=True):
        last.wait(timeout=180)
    assert (app.definition()["instances"], app.tasks()) == (0, [])


def test_groups(cluster):
    group = cluster.deploy_group({
        "id": "/services/shop",
        "apps": [{**APP, "id": "db"}, {**APP, "id": "web", "dependencies": ["db"]}],
    }).wait(timeout=180)
    assert [app["id"] for app in group.definition()["apps"]] == ["/services/shop/db", "/services/shop/web"]
    assert "/services/shop" in [one.id for one in cluster.groups()]
    (version, *_) = group.versions()
    group.scale(2).wait(timeout=180)
    assert len(cluster.app("/services/shop/web").tasks()) == 2
    group.go_back(version).wait(timeout=180)
    assert len(cluster.app("/services/shop/web").tasks()) == 1
    group.remove().wait(timeout=180)
    with pytest.raises(dcos.NotFoundError):
        cluster.group("/services/shop")


def test_a_group_tells_how_its_pods_are_defined(cluster):
    pod = cluster.deploy_pod({
        "id": "/services/mixed/pod",
        "containers": [{"name": "one", "exec": {"command": {"shell": "sleep 600"}}, "resources": {"cpus": 0.1, "mem": 32}}],
    }).wait(timeout=180)
    (inner,) = cluster.group("/services").definition()["groups"]
    assert inner["pods"] == [pod.definition()]


def test_pods(cluster):
    definition = {
        "id": "/services/pod",
        "containers": [{"name": "one", "exec": {"command": {"shell": "sleep 600"}}, "resources": {"cpus": 0.1, "mem": 32}}],
        "networks": [{"mode": "host"}],
    }
    pod = cluster.deploy_pod(definition).wait(timeout=180)
    (first,) = pod.status()["instances"]
    assert "/services/pod" in [one.id for one in cluster.pods()]
    pod.scale(2).wait(timeout=180)
    assert len(pod.status()["instances"]) == 2
    pod.kill([first["id"]])

    def replaced():
        ids = [one["id"] for one in pod.status()["instances"] if one["status"] == "STABLE"]
        return len(ids) == 2 and first["id"] not in ids

    until("another instance", replaced)
    assert len(pod.versions()) == 2
    assert pod.definition(pod.versions()[-1]).get("scaling", {"instances": 1})["instances"] == 1
    cluster.deploy_pod({**definition, "labels": {"new": "yes"}}).wait(timeout=180)
    assert pod.definition()["labels"] == {"new": "yes"}
    pod.remove().wait(timeout=180)
    with pytest.raises(dcos.NotFoundError):
        cluster.pod("/services/pod")


def test_what_would_be(cluster):
    app = cluster.deploy({**APP, "id": "/services/plan"}).wait(timeout=180)
    plan = cluster.plan({**APP, "id": "/services/plan", "mem": 64, "instances": 3})
    (change,) = plan.changes
    assert (change.service, change.change, change.instances) == ("/services/plan", "restart", (1, 3))
    assert change.fields["/mem"] == (32, 64)
    assert [[str(action) for action in step] for step in plan.steps] == [["RestartApplication /services/plan"]]
    assert app.definition()["mem"] == 32, "nothing was changed"
    (agent,) = cluster.agents()
    fits = cluster.simulate({**APP, "id": "/services/would", "instances": 2})
    ((placement,), waiting) = (fits.placements, fits.waiting)
    assert (placement.service, placement.agent_id, placement.instances) == ("/services/would", agent.id, 2)
    assert waiting == ()
    # What the app has is not free.
    most = cluster.simulate({**APP, "id": "/services/would", "cpus": agent.cpus})
    (entry,) = most.waiting
    assert most.placements == () and entry.refused == {"InsufficientCpus": 1}


def subscribed(cluster) -> float:
    """When Marathon did so the last time."""
    with urllib.request.urlopen(f"{cluster.master}/frameworks", timeout=60) as answer:
        (marathon,) = [one for one in json.load(answer)["frameworks"] if one["name"] == "marathon"]
    return marathon.get("reregistered_time", marathon["registered_time"])


def test_who_leads(cluster):
    cluster.deploy({**APP, "id": "/services/stays"}).wait(timeout=180)
    tasks = cluster.app("/services/stays").tasks()
    about = cluster.about()
    assert about["name"] == "marathon" and about["leader"] == cluster.leader()
    before = subscribed(cluster)
    cluster.abdicate()
    # The life before may still answer for a moment.
    until("the next life", lambda: subscribed(cluster) > before)
    until("its tasks", lambda: [one["id"] for one in cluster.app("/services/stays").tasks()] == [tasks[0]["id"]])
    assert cluster.about()["frameworkId"] == about["frameworkId"]


def test_runs_that_wait(cluster):
    job = cluster.add_job({"id": "services.huge", "run": {"cmd": "true", "cpus": HUGE, "mem": 32, "disk": 0}})
    run = job.run()
    until("its place", lambda: cluster.job_queue()["services.huge"] == [run.id])
    run.stop()
    until("its end", lambda: "services.huge" not in cluster.job_queue())
    job.remove(stop_runs=True)


def test_async_twins(cluster):
    for kind in (dcos.Cluster, dcos.App, dcos.Pod, dcos.Group, dcos.Deployment):
        methods = dict(inspect.getmembers(kind, inspect.isfunction))
        public = [name for name in methods if not name.startswith("_") and not name.endswith("_async")]
        for name in public:
            twin = methods[f"{name}_async"]
            assert inspect.iscoroutinefunction(twin)
            assert inspect.signature(twin).parameters == inspect.signature(methods[name]).parameters

    async def script():
        group = await cluster.deploy_group_async({"id": "/services/async", "apps": [{**APP, "id": "a"}]})
        await group.wait_async(timeout=180)
        assert (await cluster.plan_async({**APP, "id": "/services/async/a"})).changes == ()
        app = await cluster.app_async("/services/async/a")
        await app.update_async({"cpus": HUGE})
        (deployment,) = await cluster.deployments_async()
        with pytest.raises(dcos.DeploymentError):
            await deployment.wait_async(timeout=0)
        await deployment.stop_async()
        await (await group.remove_async(force=True)).wait_async(timeout=180)

    asyncio.run(script())


@pytest.mark.parametrize("definition", [{"cmd": "true"}, {"id": ""}, {"id": "/", "cmd": "true"}, {"id": 3}, "web"])
def test_a_definition_says_what_it_defines(definition):
    nobody = dcos.connect("127.0.0.1:1")
    for define in (nobody.deploy, nobody.deploy_pod):
        with pytest.raises(dcos.DefinitionError, match="with an `id`"):
            define(definition)


def test_services_are_beside_a_master_behind_a_router():
    cluster = dcos.connect("https://127.0.0.1:1/mesos/")
    with pytest.raises(dcos.UnreachableError, match="^https://127.0.0.1:1/service/marathon"):
        cluster.apps()
    with pytest.raises(dcos.UnreachableError, match="^https://127.0.0.1:1/service/metronome"):
        cluster.jobs()
