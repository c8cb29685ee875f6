"""The programs' own logs: `--log_dir` and `--quiet`, and how they are read over the API."""

import re
import urllib.parse

from cluster import Cluster, eventually, get


def read(url: str, path: str) -> str:
    """The whole of a file that is shown at `path`."""
    query = urllib.parse.urlencode({"path": path, "offset": 0})
    return get(f"{url}/files/read?{query}")["data"]


def test_logs_are_files_of_the_folder_that_is_named_and_are_shown(tmp_path):
    posix = {"launcher": "posix", "isolation": "posix/cpu,posix/mem"}
    logged = {"log_dir": tmp_path, "quiet": "true"}
    with Cluster(agent_flags={**posix, **logged}, master_flags=logged) as cluster:
        agent = f"http://127.0.0.1:{cluster.agent_port}"
        for url, program, shown in (
            (f"http://{cluster.master}", "dcos-master", "/master/log"),
            (agent, "dcos-agent", "/slave/log"),
        ):
            link = tmp_path / f"{program}.INFO"
            name = str(link.readlink())
            assert re.fullmatch(rf"{program}\.[^/]+\.log\.INFO\.\d{{8}}-\d{{6}}\.\d+", name), name
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
            state = get(f"{url}/state")
            assert state["log_dir"] == str(tmp_path)
            assert "external_log_file" not in state
            text = eventually("the log", lambda url=url, shown=shown: read(url, shown))
            assert text in link.read_text() and " INFO " in text
            assert "\x1b" not in text
        for program in (cluster.master_program, cluster.agent_program):
            assert program.log.read_bytes() == b"", "--quiet"
