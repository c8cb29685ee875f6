"""Priorities of roles: what a cluster begins with, what operators change, and what a master with another flag makes of it."""

import json
import os
import subprocess
import urllib.error
import urllib.request

import pytest
from cluster import Program, binary, eventually, free_port, get


class Master:
    def __init__(self, folder, priorities: str) -> None:
        port = free_port()
        self.url, self.folder = f"http://127.0.0.1:{port}", folder
        self.program = Program("dcos-master", {
            "ip": "127.0.0.1", "hostname": "127.0.0.1", "port": port, "work_dir": folder / "master", "only": "master",
            "role_priorities": priorities}, folder / "log", {})

    def __enter__(self):
        self.program.start()
        eventually("an answer", lambda: get(f"{self.url}/state")["id"])
        return self

    def __exit__(self, *_):
        self.program.kill()

    def priorities(self) -> dict[str, int]:
        return {one["role"]: one["priority"] for one in get(f"{self.url}/priorities")}

    def put(self, body) -> tuple[int, str]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            request = urllib.request.Request(f"{self.url}/priorities", data, method="PUT")
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def dcos(self, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run([binary("dcos"), "--master", self.url, "role", *words], capture_output=True, text=True,
                              timeout=180, check=False, env={**os.environ, "DCOS_DIR": str(self.folder / "home")})


def test_the_registry_comes_before_the_flag(tmp_path):
    with Master(tmp_path, "prod=10,batch=-5") as first:
        assert first.priorities() == {"prod": 10, "batch": -5}
        assert first.put([{"role": "prod", "priority": 3}, {"role": "dev", "priority": 0}]) == (200, "")
        done = first.dcos("priority", "batch=7", "eng/web=-2147483648")
        assert done.returncode == 0, done.stderr
        expected = {"prod": 3, "dev": 0, "batch": 7, "eng/web": -2147483648}
        assert first.priorities() == expected
    # It was killed as it stood; whoever leads next was started otherwise.
    for flag in ("other=1,prod=99", ""):
        with Master(tmp_path, flag) as later:
            assert later.priorities() == expected
            roles = {role["name"]: role.get("priority") for role in get(f"{later.url}/roles")["roles"]}
            assert {role: priority for role, priority in roles.items() if priority is not None} == expected
            shown = later.dcos("list").stdout.splitlines()
            assert ["prod", "3", "1", "0"] in [line.split() for line in shown], shown


def test_nonsense_is_refused_whole(tmp_path):
    with Master(tmp_path, "prod=1") as master:
        for body, told in [
            (b"{", "Failed to parse"), (b'{"role": "a", "priority": 1}', "Failed to parse"),
            ([{"role": "a"}], "priority"), ([{"role": "a", "priority": 1.5}], "Failed to parse"),
            ([{"role": "a", "priority": 2**31}], "Failed to parse"), ([{"role": "a", "weight": 1}], "weight"),
            ([{"role": "a", "priority": 1}, {"role": "/b", "priority": 1}], "Invalid role '/b'"),
        ]:
            status, text = master.put(body)
            assert status == 400 and told in text, (body, text)
        assert master.put([]) == (200, "")
        assert master.priorities() == {"prod": 1}
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(urllib.request.Request(f"{master.url}/priorities", b"[]", method="POST"))
        for words, told in ((("priority", "a"), "ROLE=NUMBER"), (("priority", "a=x"), "invalid digit"),
                            (("priority", "/b=1"), "Invalid role")):
            done = master.dcos(*words)
            assert done.returncode != 0 and told in done.stderr, done
        assert master.dcos("weight", "a=2.5").returncode == 0
        assert {role["name"]: role["weight"] for role in get(f"{master.url}/roles")["roles"]}["a"] == 2.5
