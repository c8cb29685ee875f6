"""Images that a Docker Engine brings from a registry, for tasks and with their credentials."""

import json
import tarfile

import pytest
from cluster import Cluster
from docker_engine import rootfs
from docker_tasks import Docker, flags, last
from registry import Registry


@pytest.fixture(scope="module")
def image():
    return rootfs()


def without(engine, registry):
    """What the last test pulled must not help this one."""
    for one in engine.containers():
        if one["Image"].startswith(registry.name):
            engine.ask("DELETE", f"/containers/{one['Id']}?force=true&v=true")
    if any(registry.image in (one["RepoTags"] or []) for one in engine.ask("GET", "/images/json")):
        engine.ask("DELETE", f"/images/{registry.image}?force=true")


@pytest.fixture(scope="module")
def cluster(engine):
    with Cluster(agent_flags=flags(engine)) as cluster:
        yield cluster


def test_an_image_is_pulled_once_unless_it_is_forced(cluster, engine, image):
    with Registry(image, Cmd=["sh", "-c", "exit 7"]) as registry:
        update = last(cluster, Docker(1, "exit 5", {"image": registry.image}))
        assert update["message"] == "Container exited with status 5"
        pulls = registry.pulls()
        assert pulls > 0
        last(cluster, Docker(1, "true", {"image": registry.image}))
        assert registry.pulls() == pulls, "it was there"
        last(cluster, Docker(1, "true", {"image": registry.image, "force_pull_image": True}))
        assert registry.pulls() > pulls
        by_digest = f"{registry.name}/team/app@{registry.digest}"
        assert last(cluster, Docker(1, "true", {"image": by_digest}))["state"] == "TASK_FINISHED"
        without(engine, registry)


def test_an_image_that_is_not_there_is_named(cluster, engine, image):
    with Registry(image) as registry:
        wrong = f"{registry.name}/team/other:1"
        update = last(cluster, Docker(1, "true", {"image": wrong}))
        assert update["state"] == "TASK_FAILED"
        assert update["reason"] == "REASON_CONTAINER_LAUNCH_FAILED"
        assert f"failed to pull image '{wrong}'" in update["message"]
    gone = last(cluster, Docker(1, "true", {"image": registry.image}))
    assert (gone["state"], gone["reason"]) == ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED")
    assert registry.image in gone["message"], "a registry that does not answer"


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_an_app_brings_its_credentials(cluster, engine, image, auth, tmp_path):
    """As Marathon's users did: an archive of `.docker/config.json` among the URIs."""
    with Registry(image, auth) as registry:
        refused = last(cluster, Docker(1, "true", {"image": registry.image}))
        assert refused["state"] == "TASK_FAILED"
        assert f"failed to pull image '{registry.image}'" in refused["message"]

        config, archive = tmp_path / "config.json", tmp_path / "docker.tar.gz"
        config.write_text(json.dumps(registry.credentials()))
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(config, ".docker/config.json")
        let_in = last(cluster, Docker(1, "true", {"image": registry.image}, uris=[str(archive)]))
        assert let_in["state"] == "TASK_FINISHED", let_in
        without(engine, registry)

        config.write_text(json.dumps(registry.credentials("reader:wrong")))
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(config, ".docker/config.json")
        wrong = last(cluster, Docker(1, "true", {"image": registry.image}, uris=[str(archive)]))
        assert wrong["state"] == "TASK_FAILED"

        old = tmp_path / ".dockercfg"
        old.write_text(json.dumps(registry.credentials()["auths"]))
        let_in = last(cluster, Docker(1, "true", {"image": registry.image}, uris=[str(old)]))
        assert let_in["state"] == "TASK_FINISHED", let_in
        without(engine, registry)


def test_the_node_has_credentials(engine, image, tmp_path):
    with Registry(image, "token") as registry:
        config = json.dumps(registry.credentials())
        with Cluster(agent_flags=flags(engine, docker_config=config)) as cluster:
            let_in = last(cluster, Docker(1, "true", {"image": registry.image}))
            assert let_in["state"] == "TASK_FINISHED", let_in
            without(engine, registry)
            # What the task brings counts instead.
            own = tmp_path / ".dockercfg"
            own.write_text(json.dumps(registry.credentials("reader:wrong")["auths"]))
            wrong = last(cluster, Docker(1, "true", {"image": registry.image}, uris=[str(own)]))
            assert wrong["state"] == "TASK_FAILED", wrong


def test_credentials_that_make_no_sense_are_named(cluster, image, tmp_path):
    with Registry(image) as registry:
        own = tmp_path / ".dockercfg"
        own.write_text("{ my secret")
        update = last(cluster, Docker(1, "true", {"image": registry.image}, uris=[str(own)]))
        assert update["state"] == "TASK_FAILED"
        assert ".dockercfg of the sandbox" in update["message"]
        assert "my secret" not in update["message"]
