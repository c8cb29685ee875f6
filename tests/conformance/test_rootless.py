"""An agent that an ordinary user begins: images, pods, sessions, recovery, and what it refuses. Needs root, to make users."""

import contextlib
import io
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path

import pytest
from cluster import Cluster, binary, end_launchers, eventually, free_port, get, launchers
from images import programs
from registry import Registry
from session import deploy, destroy
from test_marathon_api import Api

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making users needs root"),
    pytest.mark.skipif(not shutil.which("newuidmap"), reason="there is no `newuidmap` (Debian's package `uidmap`)"),
    pytest.mark.skipif(not shutil.which("useradd"), reason="there is no `useradd` (Debian's package `passwd`)"),
]

FIRST, COUNT = 1_900_000_000, 65_536


class User:
    """An ordinary user of this host, with a folder of its own, for the time of a test."""

    def __init__(self, name: str, number: int, subordinate: bool = True) -> None:
        self.name, self.number, self.subordinate = name, number, subordinate

    def __enter__(self) -> "User":
        subprocess.run(["useradd", "--no-create-home", "--uid", str(self.number), "--shell", "/bin/sh", self.name],
                       check=True, capture_output=True)
        if self.subordinate:
            ids = f"{FIRST}-{FIRST + COUNT - 1}"
            subprocess.run(["usermod", "--add-subuids", ids, "--add-subgids", ids, self.name], check=True)
        self.group = pwd.getpwnam(self.name).pw_gid
        self.folder = Path(tempfile.mkdtemp(prefix="dcos-rootless-"))
        os.chown(self.folder, self.number, self.group)
        self.folder.chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        end_launchers(self.folder)
        eventually("the end of all the user had", lambda: not self.processes())
        # A process that nobody has waited for is still one for `userdel`.
        eventually("the user's removal", lambda: subprocess.run(
            ["userdel", self.name], check=True, capture_output=True).returncode == 0)
        shutil.rmtree(self.folder)

    @property
    def prefix(self) -> list[str]:
        """What a command begins with that is to be this user's."""
        return ["setpriv", f"--reuid={self.number}", f"--regid={self.group}", "--init-groups", "--"]

    def ids(self) -> range:
        return range(FIRST, FIRST + COUNT) if self.subordinate else range(0)

    def processes(self) -> dict[int, str]:
        """The user's processes that have not ended, and those of its subordinate ids."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                owner = int((process / "status").read_text().split("Uid:")[1].split()[0])
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if words and (owner == self.number or owner in self.ids()):
                    found[int(process.name)] = words
        return found

    def mounts(self) -> list[str]:
        """What is mounted for this user where the node sees it; other tests mount meanwhile, too."""
        return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.folder) in line]

    def file(self, name: str, *parts: str) -> Path:
        """The only one of this name below the user's folder, in a folder with one of `parts`, once it is there."""
        def found() -> list[Path]:
            return [path for path in self.folder.rglob(name) if not parts or any(part in str(path) for part in parts)]

        [path] = eventually(name, found)
        return path

    def has_no_roots(self, folder: Path | None = None) -> None:
        """Of containers that have ended none is left."""
        eventually("the end of all roots", lambda: not list((folder or self.folder).rglob("rootfs")))

    def owns(self, path: Path) -> int:
        return path.lstat().st_uid


@pytest.fixture(scope="module")
def user():
    with User(f"dcosrl{os.getpid() % 100000}", 1_800_000_000 + os.getpid()) as user:
        yield user


def root_of_an_image(*extra: tarfile.TarInfo) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        programs(tar, "sh", "cat", "sleep", "id", "ls", "mkdir", "stat", "touch", "rm", "env", "test", "mknod")
        passwd = b"root:x:0:0::/root:/bin/sh\nweb:x:77:78::/:/bin/sh\n"
        entry = tarfile.TarInfo("etc/passwd")
        entry.size = len(passwd)
        tar.addfile(entry, io.BytesIO(passwd))
        theirs = tarfile.TarInfo("of-web")
        theirs.uid, theirs.gid, theirs.mode = 77, 78, 0o640
        tar.addfile(theirs)
        device = tarfile.TarInfo("a-device")
        device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
        tar.addfile(device)
        for one in extra:
            tar.addfile(one)
    return archive.getvalue()


@pytest.fixture(scope="module")
def registry():
    with Registry(root_of_an_image()) as registry:
        yield registry


def cluster_of(user: User, **flags) -> Cluster:
    number = len(list(user.folder.iterdir()))
    cluster = Cluster(agent_flags={
        "work_dir": user.folder / f"work-{number}", "runtime_dir": user.folder / f"run-{number}", "image_providers": "docker",
        **flags,
    })
    cluster.agent_program.prefix = user.prefix
    return cluster


@pytest.fixture(scope="module")
def cluster(user):
    with cluster_of(user) as cluster:
        yield cluster


def dcos(cluster, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    command = [*prefix, binary("dcos"), "--master", f"http://{cluster.master}", "task", *words]
    return subprocess.run(command, capture_output=True, timeout=180, check=False, text=True)


def said(cluster, name: str, script: str, **app) -> str:
    """What a command says that runs to its end in a session of an app that is made for it."""
    deploy(cluster, name, **app)
    try:
        ran = dcos(cluster, "exec", name, "sh", "-c", script)
        return ran.stdout + ran.stderr
    finally:
        destroy(cluster, name)


def image(registry, **app):
    docker = {"image": f"{registry.name}/team/app:1"}
    return {"container": {"type": "MESOS", "docker": docker}, **app}


def first_process(cluster, task: dict) -> int:
    return task["statuses"][-1]["container_status"]["executor_pid"]


def test_a_command_is_root_of_its_namespaces_and_the_user_on_the_node(cluster, user):
    task = deploy(cluster, "command", cmd="touch mine; exec sleep 1000")
    try:
        pid = first_process(cluster, task)
        maps = Path(f"/proc/{pid}/uid_map").read_text().split()
        assert maps == ["0", str(user.number), "1", "1", str(FIRST), str(COUNT)]
        for kind in ("pid", "mnt"):
            assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
        mine = user.file("mine")
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{user.number}\t" in status
        assert "NoNewPrivs:\t0" in status
        ran = dcos(cluster, "exec", "command", "sh", "-c", "id -u; echo $$; cat /proc/self/status; stat -c %u mine; exit 7")
        assert ran.returncode == 7, ran
        assert ran.stdout.startswith("0\n"), ran
        assert "NoNewPrivs:\t1" in ran.stdout and "Seccomp:\t2" in ran.stdout
        assert "CapBnd:\t00000000800405fb" in ran.stdout
        assert ran.stdout.endswith("\n0\n")
        assert user.owns(mine) == user.number
    finally:
        destroy(cluster, "command")


def test_the_users_own_client_may_enter_and_a_task_may_not(cluster, user):
    deploy(cluster, "entered")
    deploy(cluster, "other")
    try:
        ran = dcos(cluster, "exec", "entered", "sh", "-c", "id -u", prefix=tuple(user.prefix))
        assert (ran.returncode, ran.stdout) == (0, "0\n"), ran
        # A task is the same user, and asks from the same network.
        script = f"{binary('dcos')} --master http://{cluster.master} task exec other id"
        asked = dcos(cluster, "exec", "entered", "sh", "-c", script)
        assert asked.returncode != 0 and "is refused without credentials" in asked.stderr, asked
        # What looks who asks may be killed, as where nothing limits memory.
        looks = [pid for pid, words in user.processes().items() if " callers look " in words]
        assert looks
        for pid in looks:
            os.kill(pid, signal.SIGKILL)
        ran = dcos(cluster, "exec", "entered", "sh", "-c", "id -u", prefix=tuple(user.prefix))
        assert (ran.returncode, ran.stdout) == (0, "0\n"), ran
        asked = dcos(cluster, "exec", "entered", "sh", "-c", script)
        assert asked.returncode != 0 and "is refused without credentials" in asked.stderr, asked
    finally:
        destroy(cluster, "entered")
        destroy(cluster, "other")


def test_an_image_has_a_root_of_its_own(cluster, user, registry):
    script = ("id -u; stat -c '%u %g' /of-web; ls /; cat /proc/1/comm; mkdir /new && echo made; "
              "echo x > /dev/null && echo null; test -e /a-device || echo none; "
              "mknod /n c 1 3 || echo refused; ls /sys/class > /dev/null && echo sys; touch /sys/x || echo ro")
    text = said(cluster, "pulled", script, **image(registry, cmd="exec sleep 1000"))
    assert text.startswith("0\n77 78\n"), text
    for word in ("of-web", "dcos-init", "made", "null", "none", "refused", "sys", "ro"):
        assert word in text.split(), (word, text)
    # What an image's files belong to are subordinate ids, and nothing is left of the container.
    assert user.owns(user.file("of-web", "layers", "store")) == FIRST + 76
    user.has_no_roots()


def test_a_user_of_an_image_has_a_subordinate_id(cluster, user, registry):
    task = deploy(cluster, "web", **image(registry, cmd="touch $MESOS_SANDBOX/of-mine; exec sleep 1000", user="web"))
    try:
        status = Path(f"/proc/{first_process(cluster, task)}/root")
        assert status.is_dir()
        ran = dcos(cluster, "exec", "web", "id")
        assert ran.stdout.startswith("uid=77(web) gid=78"), ran
        assert user.owns(user.file("of-mine")) == FIRST + 76
    finally:
        destroy(cluster, "web")


def test_the_agents_user_by_name_is_root_inside(cluster, user):
    deploy(cluster, "named", cmd="exec sleep 1000", user=user.name)
    try:
        assert dcos(cluster, "exec", "named", "sh", "-c", "id -u").stdout == "0\n"
    finally:
        destroy(cluster, "named")


def test_an_image_with_ids_beyond_the_range_is_refused(cluster):
    stranger = tarfile.TarInfo("of-a-stranger")
    stranger.uid = COUNT + 1
    with Registry(root_of_an_image(stranger)) as registry:
        app = {"id": "/beyond", "cpus": 0.1, "mem": 32, "cmd": "true", **image(registry)}
        api = Api(cluster)
        api("POST", "/v2/apps", app)
        try:
            def failure():
                return api("GET", "/v2/apps//beyond")["app"].get("lastTaskFailure")
            message = eventually("the failure", failure)["message"]
            assert f"user {COUNT + 1}" in message and "/etc/subuid" in message, message
        finally:
            destroy(cluster, "beyond")


def test_a_pod_shares_what_pods_share(cluster, registry):
    api = Api(cluster)
    picture = {"kind": "DOCKER", "id": f"{registry.name}/team/app:1"}
    limits = {"cpus": 0.1, "mem": 32}
    mounts = [{"name": "scratch", "mountPath": "data"}]
    api("POST", "/v2/pods", {
        "id": "/pod", "volumes": [{"name": "scratch"}],
        "containers": [
            {"name": "writer", "image": picture, "resources": limits, "volumeMounts": mounts,
             "exec": {"command": {"shell": "id -u > data/who && exec sleep 1000"}}},
            {"name": "reader", "resources": limits, "volumeMounts": mounts,
             "exec": {"command": {"shell": "exec sleep 1000"}},
             "healthCheck": {"exec": {"command": {"shell": "grep -qx 0 data/who"}}, "intervalSeconds": 10,
                             "timeoutSeconds": 9, "delaySeconds": 0, "gracePeriodSeconds": 60}},
        ],
    })
    try:
        eventually("a pod that is well", lambda: api("GET", "/v2/pods//pod::status")["status"] == "STABLE")
    finally:
        api("DELETE", "/v2/pods//pod?force=true")
        api.idle()


def test_a_killed_agent_finds_its_containers_again(cluster, user, registry):
    task = deploy(cluster, "kept", **image(registry, cmd="exec sleep 1000"))
    pid = first_process(cluster, task)
    apart = os.readlink(f"/proc/{pid}/ns/user")
    try:
        cluster.agent_program.kill()
        assert Path(f"/proc/{pid}").is_dir()
        cluster.agent_program.start()
        agent = cluster.agent_program.process.pid
        eventually("the agent where its containers are", lambda: os.readlink(f"/proc/{agent}/ns/user") == apart)

        def entered():
            ran = dcos(cluster, "exec", "kept", "sh", "-c", "echo $$; cat /proc/1/comm; ls /of-web")
            return ran.returncode == 0 and ran.stdout
        assert eventually("a session", entered).endswith("dcos-init\n/of-web\n")
        assert Path(f"/proc/{pid}").is_dir()
        # What it launches now is there as well.
        assert said(cluster, "after", "id -u") == "0\n"
    finally:
        destroy(cluster, "kept")
    user.has_no_roots()


def test_nothing_is_left_on_the_node(user, registry):
    mounted = user.mounts()
    before = user.processes()
    with cluster_of(user) as cluster:
        deploy(cluster, "first", **image(registry, cmd="sleep 1000 & exec sleep 1000"))
        deploy(cluster, "second", cmd="setsid sleep 1000 & exec sleep 1000")
        eventually("all that sleeps", lambda: len([words for words in user.processes().values() if "sleep 1000" in words]) >= 4)
        running = set(user.processes()) - set(before)
        assert user.mounts() == mounted
        folder = Path(cluster.agent_program.flags["work_dir"])
        # SIGTERM leaves tasks running, SIGUSR1 does not.
        cluster.agent_program.stop()
        assert launchers(user.folder)
        cluster.start_agent()
        cluster.agent_program.stop(signal.SIGUSR1)
        eventually("the end of all that ran", lambda: not running & set(user.processes()))
    eventually("the end of all that was started", lambda: set(user.processes()) <= set(before))
    user.has_no_roots(folder)


def test_an_agent_that_was_killed_with_its_launcher_begins_anew(user, registry):
    with cluster_of(user) as cluster:
        task = deploy(cluster, "lost", **image(registry, cmd="exec sleep 1000"))
        pid = first_process(cluster, task)
        run = Path(cluster.agent_program.flags["runtime_dir"])
        cluster.agent_program.kill()
        for launcher in launchers(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(launcher, signal.SIGKILL)
        eventually("the task's end", lambda: not user.processes().get(pid))
        cluster.agent_program.start()
        assert said(cluster, "anew", "id -u", **image(registry, cmd="exec sleep 1000")) == "0\n"


ESCAPES = {
    "mounts": ("mount -t tmpfs none /mnt", "ermission denied|must be superuser|not permitted"),
    "namespaces": ("unshare -m true", "not permitted"),
    "user namespaces": ("unshare -r true", "not permitted"),
    "the launcher's memory": ("cat /proc/1/mem", "ermission denied|not permitted"),
    "the launcher's files": ("cat /proc/1/environ /proc/1/fd/3", "ermission denied|not permitted"),
    "kernel settings": ("echo 1 > /proc/sys/kernel/panic", "ead-only"),
    "the kernel's memory": ("head -c1 /proc/kcore | wc -c", "^0$"),
    "files of root": ("cat /etc/shadow", "ermission denied"),
    "who it is": ("setpriv --reuid=70000 true", "nvalid|not permitted"),
    "the host's name": ("hostname stranger", "must be root|not permitted"),
}


def test_a_process_that_tries_to_get_out(cluster):
    deploy(cluster, "prisoner", cmd="exec sleep 1000")
    try:
        for what, (script, expected) in ESCAPES.items():
            ran = dcos(cluster, "exec", "prisoner", "sh", "-c", script)
            assert re.search(expected, ran.stdout + ran.stderr, re.MULTILINE), (what, ran)
        # Nobody else's processes are seen.
        seen = dcos(cluster, "exec", "prisoner", "sh", "-c", "ls -d /proc/[0-9]* | wc -l").stdout
        assert int(seen) < 8, seen
    finally:
        destroy(cluster, "prisoner")


@pytest.mark.parametrize("flags, told", [
    (["--isolation=filesystem/linux,cgroups/mem"], "`cgroups/mem` takes an agent that is root"),
    (["--isolation=filesystem/linux,cgroups/all"], "`cgroups/all` takes an agent that is root"),
    (["--isolation=filesystem/linux,docker/volume"], "`docker/volume` takes an agent that is root"),
    (["--isolation=filesystem/linux,gpu/nvidia"], "`gpu/nvidia` takes an agent that is root"),
    (["--launcher=linux", "--containerizers=mesos,docker"], "--containerizers=docker takes root"),
    (["--network_cni_config_dir=/etc/cni", "--network_cni_plugins_dir=/opt/cni/bin"], "--network_cni_config_dir takes root"),
    (["--overlay"], "--overlay takes root"),
    (["--l4lb"], "--l4lb takes root"),
    (["--dns"], "--dns takes root"),
    (["--user_namespaces"], "--user_namespaces takes root"),
    (["--launcher=linux", "--oci_runtimes={}"], "--oci_runtimes takes root"),
])
def test_what_takes_root_is_refused_at_the_start(user, flags, told):
    ended = start(user, *flags)
    assert ended.returncode != 0
    assert told in ended.stdout, ended.stdout


def start(
    user: User, *flags: str, prefix: tuple[str, ...] = (), seconds: float = 180, cwd: Path | None = None,
) -> subprocess.CompletedProcess:
    """An agent that nobody answers, until it ends."""
    command = [*prefix, *user.prefix, binary("dcos-agent"), "--ip=127.0.0.1", f"--port={free_port()}",
               f"--master=127.0.0.1:{free_port()}", *flags]
    if not any(flag.startswith("--work_dir") for flag in flags):
        command.append(f"--work_dir={user.folder}/none")
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False, cwd=cwd,
    )


def test_a_link_on_the_way_is_refused(user):
    link = user.folder / "link"
    link.symlink_to(user.folder)
    ended = start(user, f"--work_dir={link}/work", "--launcher=linux")
    assert ended.returncode != 0 and f"leads over a link; without root say where it is: {user.folder}" in ended.stdout
    link.unlink()


def test_it_may_begin_in_a_folder_that_is_not_the_users_to_enter(user, tmp_path):
    tmp_path.chmod(0o700)
    work = user.folder / "of-others"
    work.mkdir()
    # What is looked at once it is root of its namespace, and ends it.
    (work / "user-namespace").write_text("user 1 5 5\n")
    ended = start(user, f"--work_dir={work}", "--launcher=linux", cwd=tmp_path)
    assert "going on at /" in ended.stdout and "user 1 5 5" in ended.stdout, ended.stdout


def test_where_namespaces_are_forbidden_tasks_are_plain_processes_and_it_is_said(user):
    # The kernel makes no user namespaces for who is in a chroot.
    other = user.folder / "other-root"
    other.mkdir()
    script = 'mount --rbind / "$0" && cd "$0" && exec chroot . "$@"'
    prefix = ("unshare", "--mount", "--propagation=slave", "sh", "-c", script, str(other))
    ended = start(user, "--launcher=linux", prefix=prefix)
    assert ended.returncode != 0
    assert "users may make no namespaces here" in ended.stdout and "has to permit it" in ended.stdout, ended.stdout
    cluster = Cluster(agent_flags={"work_dir": user.folder / "plain", "runtime_dir": user.folder / "plain-run"})
    cluster.agent_program.prefix = [*prefix, *user.prefix]
    with cluster:
        task = deploy(cluster, "plain")
        pid = first_process(cluster, task)
        assert os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")
        assert "tasks are plain processes" in cluster.agent_program.log.read_text()
        # Where they run, an agent that could have namespaces goes on as they are.
        cluster.agent_program.kill()
        cluster.agent_program.prefix = user.prefix
        cluster.start_agent()
        assert Path(f"/proc/{pid}").is_dir()
        eventually("what it says of it", lambda: "the launcher at" in cluster.agent_program.log.read_text())
        destroy(cluster, "plain")


def test_plain_processes_can_be_asked_for(user, cluster):
    ended = start(user, "--launcher=posix", f"--runtime_dir={cluster.agent_program.flags['runtime_dir']}")
    # A launcher with namespaces would not run them as such.
    assert ended.returncode != 0 and "runs containers in a user namespace" in ended.stdout, ended.stdout


def test_who_has_no_subordinate_ids_is_the_only_one_there(registry):
    with User(f"dcosrx{os.getpid() % 100000}", 1_850_000_000 + os.getpid(), subordinate=False) as user:
        with cluster_of(user) as cluster:
            log = cluster.agent_program.log.read_text()
            assert "no subordinate ids in /etc/subuid and /etc/subgid" in log
            assert said(cluster, "alone", "id -u; cat /proc/self/uid_map").split() == ["0", "0", str(user.number), "1"]
            deploy(cluster, "tty", cmd="exec sleep 1000", tty=True)
            ran = dcos(cluster, "exec", "tty", "sh", "-c", "id -u")
            assert ran.stdout == "0\n", ran
            destroy(cluster, "tty")
            app = {"id": "/owned", "cpus": 0.1, "mem": 32, "cmd": "true", **image(registry)}
            api = Api(cluster)
            api("POST", "/v2/apps", app)

            def failure():
                return api("GET", "/v2/apps//owned")["app"].get("lastTaskFailure")
            message = eventually("the failure", failure)["message"]
            assert "user 77" in message and "/etc/subuid" in message, message
            destroy(cluster, "owned")


def test_a_local_cluster_is_an_ordinary_users(user):
    folder = user.folder / "local"

    def local(*words: str) -> str:
        command = [*user.prefix, binary("dcos"), "local", *words, "--dir", str(folder), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False,
                              env={**os.environ, "DCOS_DIR": str(user.folder / "home"), "HOME": str(user.folder)})
        assert done.returncode == 0, done.stderr
        return done.stdout

    before = user.processes()
    told = json.loads(local("up", "--free-ports", "--sample"))
    try:
        with urllib.request.urlopen(told["sample"], timeout=60) as answer:
            assert b"Hello" in answer.read()
        words = [binary("dcos"), "--master", told["master"], "task", "exec", "hello", "cat", "/proc/self/uid_map"]
        ran = subprocess.run([*user.prefix, *words], capture_output=True, text=True, timeout=180, check=False)
        assert ran.stdout.split()[:3] == ["0", str(user.number), "1"], ran
    finally:
        local("down")
    eventually("the end of all that was started", lambda: set(user.processes()) <= set(before))
    assert not folder.exists()


def test_ids_that_files_belong_to_are_not_given_up(user, registry):
    with cluster_of(user) as cluster:
        assert said(cluster, "before", "id -u", **image(registry, cmd="exec sleep 1000")) == "0\n"
        work = Path(cluster.agent_program.flags["work_dir"])
    for file in ("/etc/subuid", "/etc/subgid"):
        text = Path(file).read_text()
        Path(file).write_text(text.replace(f"{user.name}:{FIRST}:{COUNT}", f"{user.name}:{FIRST + 1}:{COUNT - 1}"))
    try:
        ended = start(user, f"--work_dir={work}", "--image_providers=docker")
        assert ended.returncode != 0 and f"user 1 {FIRST} {COUNT}" in ended.stdout, ended.stdout
    finally:
        for file in ("/etc/subuid", "/etc/subgid"):
            text = Path(file).read_text()
            Path(file).write_text(text.replace(f"{user.name}:{FIRST + 1}:{COUNT - 1}", f"{user.name}:{FIRST}:{COUNT}"))


class Delegated:
    """A cgroup of version 2 that is a user's, as root gives it away."""

    def __init__(self, user: User) -> None:
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        places = [Path(fields[4]) for fields in mounts if fields[fields.index("-") + 1] == "cgroup2"]
        if not places:
            pytest.skip("no control groups of version 2")
        [self.top, *_] = places
        self.user, self.folder = user, self.top / f"dcos-test-{os.getpid()}"

    def __enter__(self) -> "Delegated":
        (self.folder / "agent").mkdir(parents=True)
        own = (self.top / "cgroup.controllers").read_text().split()
        (self.top / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in own))
        for name in (".", "cgroup.procs", "cgroup.subtree_control", "agent", "agent/cgroup.procs"):
            os.chown(self.folder / name, self.user.number, self.user.group)
        self.controllers = (self.folder / "cgroup.controllers").read_text().split()
        return self

    def __exit__(self, *_: object) -> None:
        def gone() -> bool:
            for folder in sorted(self.folder.rglob("*"), reverse=True):
                if folder.is_dir():
                    folder.rmdir()
            self.folder.rmdir()
            return True
        eventually("the end of all control groups", gone)

    @property
    def prefix(self) -> list[str]:
        return [*self.only, *self.user.prefix]

    @property
    def only(self) -> tuple[str, ...]:
        """What has a command begin there, and not as systemd's."""
        script = f'echo $$ > {self.folder}/agent/cgroup.procs && exec "$@"'
        return ("env", "--unset=INVOCATION_ID", "--unset=SYSTEMD_EXEC_PID", "sh", "-c", script, "sh")


@pytest.fixture
def delegated(user):
    with Delegated(user) as delegated:
        yield delegated


def cluster_in(delegated: Delegated, **flags) -> Cluster:
    cluster = cluster_of(delegated.user, **flags)
    cluster.agent_program.prefix = delegated.prefix
    return cluster


def test_containers_are_in_control_groups_that_were_delegated(delegated, registry):
    if not delegated.controllers:
        pytest.skip("control groups of version 2 have no controllers here")
    whole = {"cpu", "memory", "pids"} <= set(delegated.controllers)
    # Without a word the agent takes what it can.
    flags = {} if whole else {"isolation": f"filesystem/linux,namespaces/pid,cgroups/{delegated.controllers[0]}"}
    with cluster_in(delegated, **flags) as cluster:
        agent = cluster.agent_program
        task = deploy(cluster, "within", **image(registry, cmd="exec sleep 1000", mem=64))
        try:
            pid = first_process(cluster, task)
            at = Path(f"/proc/{pid}/cgroup").read_text().split("0::")[1].strip()
            place = delegated.top / at.lstrip("/")
            assert place.name == "leaf" and place.parents[1] == delegated.folder / "mesos", place
            held = (delegated.folder / "agent/cgroup.procs").read_text().split()
            assert str(agent.process.pid) in held and not (delegated.folder / "cgroup.procs").read_text()
            if whole:
                assert (place.parent / "memory.max").read_text().strip() == str(64 << 20)
                assert (place.parent / "pids.max").read_text().strip() != "max"
            # It is begun again as it was, and finds them.
            agent.kill()
            cluster.start_agent()
            eventually("its word", lambda: str(delegated.folder) in agent.log.read_text().rpartition(
                "containers have control groups there")[2])
            assert said(cluster, "after", "cat /proc/self/cgroup", **image(registry, cmd="exec sleep 1000")).endswith("0::/\n")
            shown = [one["statistics"] for one in get(f"http://127.0.0.1:{cluster.agent_port}/monitor/statistics")]
            if whole:
                assert any(one.get("mem_limit_bytes") == 64 << 20 and one["processes"] for one in shown), shown
        finally:
            destroy(cluster, "within")
        eventually("the container's end", lambda: not list((delegated.folder / "mesos").glob("*/")))


def test_memory_beyond_what_was_delegated_ends_a_task(delegated):
    if "memory" not in delegated.controllers:
        pytest.skip("the controller of memory is not of version 2 here")
    with cluster_in(delegated) as cluster:
        api = Api(cluster)
        api("POST", "/v2/apps", {"id": "/greedy", "cpus": 0.1, "mem": 64, "cmd": "tail /dev/zero"})

        def failure():
            return api("GET", "/v2/apps//greedy")["app"].get("lastTaskFailure")
        message = eventually("the failure", failure)["message"]
        assert message.startswith("Memory limit exceeded: Requested: 64MB"), message
        destroy(cluster, "greedy")


def test_why_no_control_groups_are_used_is_told(delegated):
    user = delegated.user
    flags = ("--isolation=filesystem/linux,cgroups/hugetlb", f"--work_dir={user.folder}/none-delegated")
    other = (*delegated.only[:5], f'echo $$ > {delegated.folder}/cgroup.procs; "$@"', "sh")
    ended = start(user, *flags, prefix=other)
    assert ended.returncode != 0 and "holds other processes as well" in ended.stdout, ended.stdout
    assert "were not delegated to this agent's user" in ended.stdout, ended.stdout
    ended = start(user, "--isolation=filesystem/linux,cgroups/devices", flags[1], prefix=delegated.only)
    assert "`devices` is not delegated to" in ended.stdout or not delegated.controllers, ended.stdout
    for name in ("INVOCATION_ID", "SYSTEMD_EXEC_PID"):
        ended = start(user, *flags, prefix=(*delegated.only, "env", f"{name}=1"))
        assert ended.returncode != 0 and f"delegated to this agent's user; without them nothing is limited: systemd began this agent (`{name}`)" \
            in ended.stdout, ended.stdout


def test_a_cluster_with_one_command():
    with User(f"dcosrc{os.getpid() % 100000}", 1_860_000_000 + os.getpid()) as user:
        environment = {"PATH": os.environ["PATH"], "HOME": str(user.folder), "DCOS_DIR": str(user.folder / "home")}

        def local(*words: str) -> str:
            done = subprocess.run([*user.prefix, binary("dcos"), "local", *words], env=environment, cwd=user.folder,
                                  capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout + done.stderr

        try:
            assert "The cluster works" in local("up", "--free-ports", "--timeout", "120", "--sample")
        finally:
            assert "stay" not in local("down")
        assert not (user.folder / "home" / "local").exists()
        eventually("the end of all that ran", lambda: not user.processes())
