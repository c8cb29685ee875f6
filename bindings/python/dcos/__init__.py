"""Script a cluster, or write a scheduler for it.

>>> import dcos
>>> cluster = dcos.connect("http://127.0.0.1:5050")                     # doctest: +SKIP
>>> app = cluster.deploy({"id": "/hello", "cmd": "sleep 100", "cpus": 0.1, "mem": 32})  # doctest: +SKIP
>>> app.wait(timeout=30)                                                # doctest: +SKIP

`connect` gives a `Cluster`: apps, pods, groups and their deployments, jobs, tasks and their logs, agents. `Scheduler` and `SchedulerDriver`
are for frameworks of one's own. `LocalCluster` is a cluster on this machine for as long as a `with`
block lasts. Each call that waits has a twin that ends in `_async`.
"""

from dcos._cluster import Agent, Cluster, Explanation, Reason, Task, connect
from dcos._errors import (
    ApiError,
    DcosError,
    DefinitionError,
    DeploymentError,
    NotFoundError,
    RefusedError,
    RunTimeoutError,
    UnreachableError,
)
from dcos._jobs import Job, JobHistory, JobRun, Schedule
from dcos._local import LocalCluster
from dcos._native import __version__
from dcos._scheduler import Scheduler, SchedulerDriver
from dcos._services import (
    Action,
    App,
    Change,
    Deployment,
    Group,
    How,
    Placement,
    Plan,
    Pod,
    QueueEntry,
    RefusedOffer,
    Simulation,
    Waiting,
)

__all__ = [
    "Action",
    "Agent",
    "ApiError",
    "App",
    "Change",
    "Cluster",
    "DcosError",
    "DefinitionError",
    "Deployment",
    "DeploymentError",
    "Explanation",
    "Group",
    "How",
    "Job",
    "JobHistory",
    "JobRun",
    "LocalCluster",
    "NotFoundError",
    "Placement",
    "Plan",
    "Pod",
    "QueueEntry",
    "Reason",
    "RefusedError",
    "RefusedOffer",
    "RunTimeoutError",
    "Schedule",
    "Scheduler",
    "SchedulerDriver",
    "Simulation",
    "Task",
    "UnreachableError",
    "Waiting",
    "__version__",
    "connect",
]
