"""An executor on the unmodified pymesos driver: its tasks run until somebody says otherwise.

A task whose data is `finish` ends at once. The message `finish:<task>` ends one, `env` is answered
with the executor's environment, anything else is echoed.
"""

import json
import os
import time

from pymesos import Executor, MesosExecutorDriver, decode_data, encode_data


class Echo(Executor):
    def tell(self, driver, task_id, state, message=None):
        status = {"task_id": task_id, "state": state, "timestamp": time.time()}
        if message:
            status["message"] = message
        driver.sendStatusUpdate(status)

    def launchTask(self, driver, task):
        self.tell(driver, task["task_id"], "TASK_RUNNING")
        if decode_data(task.get("data", "")) == b"finish":
            self.tell(driver, task["task_id"], "TASK_FINISHED", "done")

    def killTask(self, driver, task_id):
        self.tell(driver, task_id, "TASK_KILLED")

    def frameworkMessage(self, driver, message):
        text = decode_data(message).decode()
        kind, _, task = text.partition(":")
        if kind == "finish":
            return self.tell(driver, {"value": task}, "TASK_FINISHED", "asked")
        said = json.dumps(dict(os.environ)) if text == "env" else f"echo:{text}"
        driver.sendFrameworkMessage(encode_data(said.encode()))


if __name__ == "__main__":
    MesosExecutorDriver(Echo()).run()
