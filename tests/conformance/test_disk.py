"""A task that takes more disk than it was given: Marathon, master and agent."""

import json
import urllib.request

from cluster import Cluster, eventually, get


def test_too_much_disk_ends_a_task():
    flags = {"launcher": "posix", "isolation": "posix/cpu,posix/mem,disk/du",
             "enforce_container_disk_quota": "true", "container_disk_watch_interval": "100ms"}
    app = {"id": "/fat", "cmd": "head -c 3000000 /dev/zero > file; sleep 1000", "cpus": 0.1, "mem": 32, "disk": 2,
           "maxLaunchDelaySeconds": 3600, "backoffSeconds": 3600}
    with Cluster(agent_flags=flags) as cluster:
        eventually("Marathon's answer", lambda: get(f"{cluster.marathon}/v2/info"))
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{cluster.marathon}/v2/apps", json.dumps(app).encode(), headers, method="POST")
        urllib.request.urlopen(request, timeout=60).close()

        def failure():
            return get(f"{cluster.marathon}/v2/apps/fat?embed=app.lastTaskFailure")["app"].get("lastTaskFailure")

        failed = eventually("the task's end", failure)
        assert failed["state"] == "TASK_FAILED"
        assert failed["message"].startswith("Disk usage (") and failed["message"].endswith("exceeds quota (2MB)")
