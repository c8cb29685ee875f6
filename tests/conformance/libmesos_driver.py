"""A framework on libmesos' own scheduler driver (API v0), for Python 2.7: runs a task called `one`, and does what the
lines it reads say. Says what it is told, a line each.

usage: libmesos_driver.py zk://... , with MESOS_REF_MODULE naming the extension module `_scheduler.so`

lines: `launch NAME`, `accept NAME` (a launch among other operations), `kill NAME`, `ask NAME` (reconciles it),
`ask` (reconciles all), `message`, `request`, `suppress`, `revive`, `stop`
"""
from __future__ import print_function

import imp
import os
import sys
import threading

import mesos.interface
from mesos.interface import mesos_pb2

_scheduler = imp.load_dynamic("_scheduler", os.environ["MESOS_REF_MODULE"])


def say(*words):
    print(*words)
    sys.stdout.flush()


def task_of(name, offer):
    task = mesos_pb2.TaskInfo()
    task.name = task.task_id.value = name
    task.slave_id.value = offer.slave_id.value
    task.command.value = "sleep 1000"
    for kind, amount in (("cpus", 0.1), ("mem", 32)):
        resource = task.resources.add()
        resource.name, resource.type = kind, mesos_pb2.Value.SCALAR
        resource.scalar.value = amount
    return task


def status_of(name, agent):
    status = mesos_pb2.TaskStatus()
    status.task_id.value, status.slave_id.value = name, agent
    status.state = mesos_pb2.TASK_RUNNING
    return status


class Framework(mesos.interface.Scheduler):
    def __init__(self):
        self.waiting = [("launch", "one")]
        self.agent = self.executor = None

    def registered(self, driver, framework_id, master):
        say("registered")

    def reregistered(self, driver, master):
        say("reregistered")

    def disconnected(self, driver):
        say("disconnected")

    def resourceOffers(self, driver, offers):
        for offer in offers:
            filters = mesos_pb2.Filters()
            filters.refuse_seconds = 0.5
            how, name = self.waiting.pop() if self.waiting else ("launch", None)
            tasks = [task_of(name, offer)] if name else []
            if how == "accept":
                operation = mesos_pb2.Offer.Operation()
                operation.type = mesos_pb2.Offer.Operation.LAUNCH
                operation.launch.task_infos.extend(tasks)
                driver.acceptOffers([offer.id], [operation], filters)
            else:
                driver.launchTasks([offer.id], tasks, filters)

    def statusUpdate(self, driver, update):
        self.agent, self.executor = update.slave_id.value, update.executor_id.value
        say(update.task_id.value, mesos_pb2.TaskState.Name(update.state))

    def error(self, driver, message):
        say("error", message)


def main():
    info = mesos_pb2.FrameworkInfo()
    info.user, info.name, info.failover_timeout, info.checkpoint = "root", "libmesos", 3600, True
    framework = Framework()
    driver = _scheduler.MesosSchedulerDriverImpl(framework, info, sys.argv[1], 1)

    def obey():
        for line in iter(sys.stdin.readline, ""):
            words = line.split()
            word, name = words[0], words[-1]
            if word in ("launch", "accept"):
                framework.waiting.append((word, name))
                driver.reviveOffers()
            elif word == "kill":
                task = mesos_pb2.TaskID()
                task.value = name
                driver.killTask(task)
            elif word == "ask":
                driver.reconcileTasks([status_of(name, framework.agent)] if name != word else [])
            elif word == "message":
                executor, agent = mesos_pb2.ExecutorID(), mesos_pb2.SlaveID()
                executor.value, agent.value = framework.executor or name, framework.agent
                driver.sendFrameworkMessage(executor, agent, "hello")
            elif word == "request":
                driver.requestResources([mesos_pb2.Request()])
            elif word == "suppress":
                driver.suppressOffers()
            elif word == "revive":
                driver.reviveOffers()
            elif word == "stop":
                driver.stop()

    reader = threading.Thread(target=obey)
    reader.daemon = True
    reader.start()
    driver.run()


main()
