"""A command executor on the v1 HTTP API, for agents that start one for each command task.

Original agents run `mesos-executor` for that; ours need none. It runs one command, tells of it,
and, if its framework checkpoints, comes back to an agent that was restarted or replaced.
"""

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid

AGENT = os.environ["MESOS_AGENT_ENDPOINT"]
PATH = "/" + os.environ["MESOS_SLAVE_PID"].split("@")[0] + "/api/v1/executor"
WHO = {"framework_id": {"value": os.environ["MESOS_FRAMEWORK_ID"]},
       "executor_id": {"value": os.environ["MESOS_EXECUTOR_ID"]}}
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "secs": 1, "mins": 60, "hrs": 3600, "days": 86400}


def seconds(text):
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()
    return float(number) * UNITS[unit]


class CommandExecutor:
    def __init__(self):
        self.task = None
        self.child = None
        self.killed = False
        self.unacknowledged = {}
        self.changed = threading.Condition()
        self.connected = False

    def call(self, kind, **fields):
        connection = http.client.HTTPConnection(AGENT, timeout=5)
        connection.request("POST", PATH, json.dumps({"type": kind, **WHO, **fields}), HEADERS)
        status = connection.getresponse().status
        connection.close()
        return status == 202

    def tell(self, state, message=None):
        """Notes an update, which is sent until the agent has acknowledged it."""
        status = {"task_id": self.task["task_id"], "state": state, "source": "SOURCE_EXECUTOR",
                  "executor_id": WHO["executor_id"], "timestamp": time.time(),
                  "uuid": base64.b64encode(uuid.uuid4().bytes).decode()}
        if message:
            status["message"] = message
        with self.changed:
            self.unacknowledged[status["uuid"]] = status
            if self.connected:
                try:
                    self.call("UPDATE", update={"status": status})
                except OSError:
                    pass

    def run(self):
        command = self.task["command"]
        environment = dict(os.environ)
        for variable in command.get("environment", {}).get("variables", []):
            environment[variable["name"]] = variable.get("value", "")
        shell = command.get("shell", True)
        program = ["/bin/sh", "-c", command["value"]] if shell else command.get("arguments") or [command["value"]]
        self.tell("TASK_STARTING")
        try:
            self.child = subprocess.Popen(program, executable=program[0] if shell else command["value"],
                                          env=environment, start_new_session=True)
        except OSError as error:
            self.tell("TASK_FAILED", str(error))
        else:
            self.tell("TASK_RUNNING")
            code = self.child.wait()
            how = f"Command exited with status {code}" if code >= 0 else f"Command terminated with signal {-code}"
            self.tell("TASK_KILLED" if self.killed else "TASK_FAILED" if code else "TASK_FINISHED", how)
        with self.changed:
            self.changed.wait_for(lambda: not self.unacknowledged, 900)
        os._exit(0)

    def kill(self, grace):
        self.killed = True
        if self.child:
            for number, pause in ((signal.SIGTERM, grace), (signal.SIGKILL, 0)):
                try:
                    os.killpg(self.child.pid, number)
                except ProcessLookupError:
                    return
                time.sleep(pause)

    def event(self, event):
        kind = event["type"]
        if kind == "LAUNCH" and self.task is None:
            self.task = event["launch"]["task"]
            threading.Thread(target=self.run, daemon=True).start()
        elif kind == "KILL":
            grace = event["kill"].get("kill_policy", {}).get("grace_period", {}).get("nanoseconds", 3e9)
            threading.Thread(target=self.kill, args=(grace / 1e9,), daemon=True).start()
        elif kind == "ACKNOWLEDGED":
            with self.changed:
                self.unacknowledged.pop(event["acknowledged"]["uuid"], None)
                self.changed.notify_all()
        elif kind == "SHUTDOWN":
            self.kill(0)
            os._exit(0)

    def subscribe(self):
        """One connection to the agent, to its end."""
        connection = http.client.HTTPConnection(AGENT)
        unacknowledged = list(self.unacknowledged.values())
        connection.request("POST", PATH, json.dumps({"type": "SUBSCRIBE", **WHO, "subscribe": {
            # A task nobody has acknowledged anything of may be unknown to the agent.
            "unacknowledged_tasks": [self.task] if self.task and unacknowledged else [],
            "unacknowledged_updates": [{"status": status} for status in unacknowledged]}}), HEADERS)
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"refused: {answer.status} {answer.read()}")
        with self.changed:
            self.connected = True
            meanwhile = [status for status in self.unacknowledged.values() if status not in unacknowledged]
            for status in meanwhile:
                self.call("UPDATE", update={"status": status})
        length = b""
        while byte := answer.read(1):
            length += byte
            if byte == b"\n":
                self.event(json.loads(answer.read(int(length))))
                length = b""
        return True

    def main(self):
        patience = seconds(os.environ.get("MESOS_RECOVERY_TIMEOUT", "15mins"))
        last = time.monotonic()
        while True:
            try:
                self.subscribe()
                last = time.monotonic()
            except (OSError, http.client.HTTPException) as error:
                print("agent not reached:", error, file=sys.stderr, flush=True)
            with self.changed:
                if self.connected:
                    last = time.monotonic()
                self.connected = False
            if os.environ.get("MESOS_CHECKPOINT") != "1" or time.monotonic() - last > patience:
                self.kill(0)
                sys.exit("the agent is gone")
            time.sleep(0.2)


if __name__ == "__main__":
    CommandExecutor().main()
