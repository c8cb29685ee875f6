"""Writes the trees of this folder: what an original Marathon 1.11 and a Metronome 0.6 leave in ZooKeeper.

The messages are encoded by code generated from the originals' own schemas, so that ours is not checked against itself:

    pip install grpcio-tools
    python -m grpc_tools.protoc -I SCHEMAS --python_out=GENERATED marathon.proto mesos/mesos.proto metronome.proto
    python make.py GENERATED marathon-1.11.tree ../../../../metronome/src/migrate/testdata/metronome-0.6.tree

with `marathon.proto` and `mesos/mesos.proto` of mesosphere/marathon (`src/main/protobuf`) and `metronome.proto` of
dcos/metronome (`jobs/src/main/protobuf`) in SCHEMAS. A line is a node's path, a tab, and its data in base64.
"""
import base64
import gzip
import json
import sys

sys.path.insert(0, sys.argv[1])
import marathon_pb2 as M
from mesos import mesos_pb2 as X
import metronome_pb2 as J

def java_hash(s):
    h = 0
    for c in s:
        h = (31 * h + ord(c)) & 0xFFFFFFFF
    return h - (1 << 32) if h >= (1 << 31) else h

def bucket(s):
    h = java_hash(s)
    r = abs(h) % 16 * (1 if h >= 0 else -1)
    return "%x" % abs(r)

nodes = {}
def put(category, id, data, version=None):
    path = f"state/{category}/{bucket(id)}/{id}"
    if version is not None:
        nodes.setdefault(path, b"")
        path += "/" + version
    nodes[path] = data

def entry(name, value, compressed=False):
    e = M.ZKStoreEntry(name=name, uuid=b"0f0e0d0c-0000-4000-8000-000000000000", value=gzip.compress(value, mtime=0) if compressed else value, compressed=compressed)
    return e.SerializeToString()

def scalar(name, value):
    return X.Resource(name=name, type=X.Value.SCALAR, scalar=X.Value.Scalar(value=value))

def app(id, version, **kw):
    d = M.ServiceDefinition()
    d.id = id; d.version = version; d.instances = kw.get("instances", 1)
    d.cmd.value = kw.get("cmd", "sleep 1000")
    d.cmd.environment.SetInParent()
    for n, v in (("cpus", kw.get("cpus", 0.1)), ("mem", kw.get("mem", 32.0)), ("disk", 0.0), ("gpus", 0.0)):
        d.resources.append(scalar(n, v))
    d.executor = ""
    d.backoff = 1000; d.backoffFactor = 1.15; d.maxLaunchDelay = 300000
    d.upgradeStrategy.minimumHealthCapacity = 1.0; d.upgradeStrategy.maximumOverCapacity = 1.0
    d.unreachableStrategy.inactiveAfterSeconds = 0; d.unreachableStrategy.expungeAfterSeconds = 0
    d.killSelection = M.YoungestFirst
    d.role = kw.get("role", "*")
    d.networks.add(mode=M.NetworkDefinition.HOST)
    d.require_ports = False
    d.last_scaling_at = kw["scaled"]; d.last_config_change_at = kw["changed"]
    return d

V1, V2, V3, V4 = "2021-03-01T10:00:00Z", "2021-03-02T11:30:00.5Z", "2021-03-03T12:00:00.123Z", "2021-03-04T08:00:00Z"
T1, T2, T3, T4 = 1614592800000, 1614684600500, 1614772800123, 1614844800000
def store_version(v):   # ISO_OFFSET_DATE_TIME
    return v
def version_text(v):    # Timestamp.toString: three digits
    head = v[:-1]
    if "." not in head: head += ".000"
    h, f = head.split(".")
    return f"{h}.{f.ljust(3, '0')}Z"

# /prod/web: three versions, the last a scaling of the second
def web(version, at, instances, cmd, scaled, changed):
    d = app("/prod/web", version_text(version), instances=instances, cmd=cmd, scaled=scaled, changed=changed)
    d.portDefinitions.add(number=10001, protocol="tcp", name="http").labels.labels.add(key="VIP_0", value="/web:80")
    d.portDefinitions.add(number=10002, protocol="udp")
    d.cmd.environment.variables.add(name="MODE", value="fast")
    d.envVarReferences.add(type=M.EnvVarReference.SECRET, name="PASSWORD").secretRef.secretId = "password"
    d.secrets.add(id="password", source="/prod/password")
    d.labels.add(key="HAPROXY_GROUP", value="external")
    d.cmd.uris.add(value="https://example.com/web.tgz", extract=True, executable=False, cache=True)
    d.cmd.user = "nobody"
    d.constraints.add(field="hostname", operator=M.Constraint.UNIQUE)
    d.constraints.add(field="rack", operator=M.Constraint.GROUP_BY, value="2")
    d.healthChecks.add(protocol=M.HealthCheckDefinition.MESOS_HTTP, portIndex=0, path="/health", gracePeriodSeconds=300, intervalSeconds=60, timeoutSeconds=20, maxConsecutiveFailures=3, delaySeconds=15)
    d.readinessCheckDefinition.add(name="ready", protocol=M.ReadinessCheckDefinition.HTTP, path="/ready", portName="http", intervalMillis=30000, timeoutMillis=10000, httpStatusCodeForReady=[200, 204], preserveLastResponse=True)
    d.taskKillGracePeriod = 20000
    d.acceptedResourceRoles.role.append("*")
    d.dependencies.append("/prod/db")
    return d
def save(category, id, version, data):
    put(category, id, data, store_version(version)); put(category, id, data)
save("apps", "prod_web", V1, web(V1, T1, 1, "serve --old", T1, T1).SerializeToString())
save("apps", "prod_web", V2, web(V2, T2, 1, "serve", T2, T2).SerializeToString())
save("apps", "prod_web", V3, web(V3, T3, 2, "serve", T3, T2).SerializeToString())

# /prod/db: a resident app
db = app("/prod/db", version_text(V1), cmd="db", scaled=T1, changed=T1, role="prod")
db.container.type = X.ContainerInfo.MESOS
v = db.container.volumes.add(container_path="data", mode=X.Volume.RW); v.persistent.size = 64
db.upgradeStrategy.minimumHealthCapacity = 0.5; db.upgradeStrategy.maximumOverCapacity = 0.0
db.unreachableStrategy.Clear(); db.unreachableStrategy.SetInParent()
db.portDefinitions.add(number=10003, protocol="tcp")
save("apps", "prod_db", V1, db.SerializeToString())

# /docker: a Docker container on a bridge
dk = app("/docker", version_text(V2), cmd="", scaled=T2, changed=T2)
dk.cmd.ClearField("value"); dk.cmd.shell = False; dk.cmd.arguments.extend(["nginx", "-g", "daemon off;"])
dk.container.type = X.ContainerInfo.DOCKER
dk.container.docker.image = "nginx:1.19"; dk.container.docker.privileged = False; dk.container.docker.force_pull_image = True
dk.container.docker.parameters.add(key="hostname", value="web")
dk.container.volumes.add(container_path="/srv", host_path="/srv/www", mode=X.Volume.RO)
dk.container.port_mappings.add(container_port=80, host_port=0, protocol="tcp", name="http", service_port=10010)
del dk.networks[:]
dk.networks.add(mode=M.NetworkDefinition.BRIDGE)
dk.killSelection = M.OldestFirst
dk.resourceLimits.cpus = 1.0; dk.resourceLimits.mem = float("inf")
dk.check.protocol = M.CheckDefinition.COMMAND; dk.check.intervalSeconds = 30; dk.check.timeoutSeconds = 5; dk.check.delaySeconds = 0
dk.check.command.shell = True; dk.check.command.value = "true"
save("apps", "docker", V2, dk.SerializeToString())

# /legacy: has an external volume, which is not served
lg = app("/legacy", version_text(V1), scaled=T1, changed=T1)
lg.container.type = X.ContainerInfo.MESOS
lv = lg.container.volumes.add(container_path="/data", mode=X.Volume.RW)
lv.external.name = "disk-1"; lv.external.provider = "csi"
save("apps", "legacy", V1, lg.SerializeToString())

# /broken: bytes nobody can read
save("apps", "broken", V1, b"\x0a\xff\xff")

# /pods/two: a pod, scaled once
def pod(version, instances):
    return {
        "id": "/pods/two", "version": version_text(version), "role": "*", "user": "root",
        "containers": [
            {"name": "web", "exec": {"command": {"shell": "serve"}}, "resources": {"cpus": 0.1, "mem": 32, "disk": 0, "gpus": 0},
             "endpoints": [{"name": "http", "hostPort": 0, "protocol": ["tcp"], "labels": {}}]},
            {"name": "log", "exec": {"command": {"shell": "log"}}, "resources": {"cpus": 0.1, "mem": 32, "disk": 0, "gpus": 0}},
        ],
        "networks": [{"mode": "host"}],
        "scaling": {"kind": "fixed", "instances": instances},
        "scheduling": {"backoff": {"backoff": 1, "backoffFactor": 1.15, "maxLaunchDelay": 300},
                       "upgrade": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
                       "killSelection": "YOUNGEST_FIRST", "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0}},
        "executorResources": {"cpus": 0.1, "mem": 32, "disk": 10},
        "legacySharedCgroups": True,
    }
save("pods", "pods_two", V2, json.dumps(pod(V2, 1)).encode())
save("pods", "pods_two", V3, json.dumps(pod(V3, 2)).encode())

def ref(list, id, version): list.add(id=id, version=store_version(version))
def tree(version, web_v, pod_v, docker):
    g = M.GroupDefinition(id="", version=version)
    prod = g.groups.add(id="prod", version=version, enforceRole=False)
    ref(prod.apps, "prod_web", web_v); ref(prod.apps, "prod_db", V1)
    pods = g.groups.add(id="pods", version=version, enforceRole=True)
    if pod_v: ref(pods.pods, "pods_two", pod_v)
    pods.dependencies.append("prod")
    if docker: ref(g.apps, "docker", V2)
    ref(g.apps, "legacy", V1); ref(g.apps, "broken", V1)
    return g.SerializeToString()
save("group", "root", V1, tree(V1, V1, None, False))
save("group", "root", V2, tree(V2, V2, V2, True))
save("group", "root", V3, tree(V3, V3, V3, True))

# what runs
def status(task, state, **kw):
    s = X.TaskStatus(task_id=X.TaskID(value=task), state=state, slave_id=X.SlaveID(value="agent-1"), timestamp=1614772801.0)
    if "healthy" in kw: s.healthy = kw["healthy"]
    if "ip" in kw:
        s.container_status.network_infos.add().ip_addresses.add(ip_address=kw["ip"])
    return base64.b64encode(s.SerializeToString()).decode()
rack = base64.b64encode(X.Attribute(name="rack", type=X.Value.TEXT, text=X.Value.Text(value="a")).SerializeToString()).decode()
def task(id, version, condition, ports, st, staged=V2, started=V2):
    return {"taskId": id, "runSpecVersion": version_text(version), "status": {
        "stagedAt": version_text(staged), "startedAt": version_text(started), "mesosStatus": st, "condition": condition,
        "networkInfo": {"hostName": "10.0.0.7", "hostPorts": ports, "ipAddresses": []}}}
def instance(id, version, condition, tasks, goal="Running", role="*", reservation=None, agent=True, healthy=None):
    d = {"instanceId": {"idString": id}}
    if agent: d["agentInfo"] = {"host": "10.0.0.7", "agentId": "agent-1", "region": "r1", "zone": "z1", "attributes": [rack]}
    d["tasksMap"] = {t["taskId"]: t for t in tasks}
    d["runSpecVersion"] = version_text(version)
    d["state"] = {"condition": condition, "since": version_text(V2), "activeSince": version_text(V2), "goal": goal}
    if healthy is not None: d["state"]["healthy"] = healthy
    if reservation: d["reservation"] = reservation
    d["role"] = role
    put("instance", id, json.dumps(d).encode())
U = "0f0e0d0c-0000-11eb-8000-00000000000"
w1 = f"prod_web.instance-{U}1"
instance(w1, V2, "Running", [task(f"{w1}._app.1", V2, "Running", [31000, 31001], status(f"{w1}._app.1", X.TASK_RUNNING, healthy=True, ip="10.0.0.7"))], healthy=True)
instance(f"prod_web.instance-{U}2", V3, "Scheduled", [], agent=False)
d1 = f"prod_db.marathon-{U}3"
instance(d1, V1, "Running", [task(f"prod_db.{U}3.4", V1, "Running", [31005], status(f"prod_db.{U}3.4", X.TASK_RUNNING))], role="prod",
         reservation={"volumeIds": [{"runSpecId": "/prod/db", "containerPath": "data", "uuid": f"{U}9", "persistenceId": f"prod_db#data#{U}9"}],
                      "state": {"name": "launched", "timeout": None}, "id": f"prod_db.{U}3"})
p1 = f"pods_two.instance-{U}4"
instance(p1, V2, "Running", [task(f"{p1}.web.1", V2, "Running", [31007], status(f"{p1}.web.1", X.TASK_RUNNING)),
                             task(f"{p1}.log.1", V2, "Running", [], status(f"{p1}.log.1", X.TASK_RUNNING))])
l1 = f"legacy.instance-{U}5"
instance(l1, V1, "Running", [task(f"{l1}._app.1", V1, "Running", [], status(f"{l1}._app.1", X.TASK_RUNNING))])
x1 = f"docker.instance-{U}6"
instance(x1, V2, "Failed", [task(f"{x1}._app.1", V2, "Failed", [31010], status(f"{x1}._app.1", X.TASK_FAILED))])
put("instance", f"docker.instance-{U}7", b"{not json")

# the scaling of /prod/web and the pod is under way
put("deployment", "5ed4c0c5-9ff8-4a6f-a0cd-f57f59a34b43", M.DeploymentPlanDefinition(
    id="5ed4c0c5-9ff8-4a6f-a0cd-f57f59a34b43", timestamp=version_text(V3), original_root_version=store_version(V2), target_root_version=store_version(V3)).SerializeToString())
f = M.TaskFailure(app_id="/docker", task_id=X.TaskID(value=f"{x1}._app.1"), state=X.TASK_FAILED, message="exit 1", host="10.0.0.7",
                  version=version_text(V2), timestamp=version_text(V4), slaveId=X.SlaveID(value="agent-1"))
save("taskFailures", "docker", V4, f.SerializeToString())
put("framework-id", "id", X.FrameworkID(value="9a1cc5b1-0000-0000-0000-000000000000-0001").SerializeToString())
nodes["state/internal:storage:version"] = entry("internal:storage:version", M.StorageVersion(major=110, minor=100, patch=0, format=M.StorageVersion.PERSISTENCE_STORE).SerializeToString())
marathon, nodes = nodes, {}

# ---- Metronome
def job(id, **kw):
    j = J.JobSpec(id=id, description=kw.get("description", ""))
    r = j.run
    r.cpus, r.mem, r.disk, r.gpus, r.max_launch_delay = 0.1, 32, 0, 0, 3600
    r.cmd = kw.get("cmd", "true")
    r.placement.SetInParent()
    r.restart.policy = J.JobSpec.RunSpec.RestartSpec.NEVER
    return j
j1 = job("prod.backup", description="every night")
j1.labels.add(key="team", value="db")
j1.schedules.add(id="nightly", schedule="30 2 * * *", tz="Europe/Berlin", startingDeadline=900, concurrency_policy=J.JobSpec.ScheduleSpec.FORBID, enabled=True)
j1.run.environment.add(key="A", value="1"); j1.run.environmentSecrets.add(name="PW", secretId="pw"); j1.run.secrets.add(id="pw", source="/backup/pw")
j1.run.placement.constraints.add(attribute="rack", operator=J.JobSpec.RunSpec.PlacementSpec.Constraint.LIKE, value="a.*")
j1.run.placement.constraints.add(attribute="os", operator=J.JobSpec.RunSpec.PlacementSpec.Constraint.IS, value="linux")
j1.run.artifacts.add(url="https://example.com/b.tgz", extract=True, executable=False, cache=True)
j1.run.restart.policy = J.JobSpec.RunSpec.RestartSpec.ON_FAILURE; j1.run.restart.activeDeadline = 120
j1.run.ucr.image.id = "busybox"; j1.run.ucr.image.kind = "docker"; j1.run.ucr.image.force_pull = True; j1.run.ucr.privileged = False
j1.run.volumes.add(container_path="/mnt", host_path="/srv", mode=J.JobSpec.RunSpec.Volume.RO)
j1.run.volumes.add(container_path="/pw", secret="pw")
j1.run.user = "nobody"; j1.run.task_kill_grace_period_seconds = 7
j1.run.networks.add(mode=J.NetworkDefinition.CONTAINER, name="dcos")
j2 = job("report"); j2.dependencies.add(id="prod.backup")
j3 = job("broken"); j3.schedules.add(id="never", schedule="0 0 31 2 *", tz="UTC", startingDeadline=900, concurrency_policy=J.JobSpec.ScheduleSpec.ALLOW, enabled=True)
def jput(path, value, compressed=False):
    nodes["state/" + path] = entry("/" + path, value, compressed)
for folder in ("job-specs", "job-runs", "job-histories"): nodes["state/" + folder] = b"10.0.0.1"
jput("job-specs/prod.backup", j1.SerializeToString()); jput("job-specs/report", j2.SerializeToString(), True); jput("job-specs/broken", j3.SerializeToString())
for id in ("prod.backup", "report", "broken"): nodes["state/job-runs/" + id] = b"10.0.0.1"
h = J.JobHistory(job_spec_id="prod.backup", success_count=7, failure_count=2, last_success_at=T2, last_failure_at=T1)
r = h.successful_runs.add(created_at=T2 - 5000, finishedAt=T2); r.job_run_id.jobId = "prod.backup"; r.job_run_id.runId = "20210302113000AbCdE"; r.tasks.append(f"prod_backup_20210302113000AbCdE.instance-{U}a._app.1")
r = h.failed_runs.add(created_at=T1 - 5000, finishedAt=T1); r.job_run_id.jobId = "prod.backup"; r.job_run_id.runId = "20210301100000AbCdE"
jput("job-histories/prod.backup", h.SerializeToString(), True)
jput("job-histories/gone", J.JobHistory(job_spec_id="gone").SerializeToString())
run = "20210303120000qWeRt"
i1 = f"prod_backup_{run}.instance-{U}b"
jr = J.JobRun(status=J.JobRun.ACTIVE, createdAt=T3, starting_deadline_seconds=900); jr.id.jobId = "prod.backup"; jr.id.runId = run; jr.jobSpec.CopyFrom(j1)
jr.tasks.add(id=f"{i1}._app.1", startedAt=T3, status=J.JobRun.JobRunTask.TASK_RUNNING)
jput(f"job-runs/prod.backup/{run}", jr.SerializeToString())
waiting = J.JobRun(status=J.JobRun.STARTING, createdAt=T4); waiting.id.jobId = "report"; waiting.id.runId = "20210304080000ZzZzZ"; waiting.jobSpec.CopyFrom(j2)
jput("job-runs/report/20210304080000ZzZzZ", waiting.SerializeToString())
EPOCH = "1970-01-01T00:00:00Z"
instance(i1, EPOCH, "Running", [task(f"{i1}._app.1", EPOCH, "Running", [], status(f"{i1}._app.1", X.TASK_RUNNING), staged=V3, started=V3)])
put("framework-id", "id", X.FrameworkID(value="9a1cc5b1-0000-0000-0000-000000000000-0002").SerializeToString())
nodes["state/internal:storage:version"] = marathon["state/internal:storage:version"]
metronome = nodes

def dump(path, nodes):
    with open(path, "w") as out:
        for name in sorted(nodes):
            out.write(name + "\t" + base64.b64encode(nodes[name]).decode() + "\n")
dump(sys.argv[2], marathon)
dump(sys.argv[3], metronome)
