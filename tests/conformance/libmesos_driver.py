"""A framework on libmesos' own scheduler driver (API v0), for Python 2.7: runs a task called `one`, and one more for
each line `launch NAME` it reads. Says what it is told, a line each.

usage: libmesos_driver.py zk://... , with MESOS_REF_MODULE naming the extension module `_scheduler.so`
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


class Framework(mesos.interface.Scheduler):
    def __init__(self):
        self.waiting = ["one"]

    def registered(self, driver, framework_id, master):
        say("registered")

    def reregistered(self, driver, master):
        say("reregistered")

    def disconnected(self, driver):
        say("disconnected")

    def resourceOffers(self, driver, offers):
        for offer in offers:
            tasks = []
            if self.waiting:
                task = mesos_pb2.TaskInfo()
                task.name = task.task_id.value = self.waiting.pop()
                task.slave_id.value = offer.slave_id.value
                task.command.value = "sleep 1000"
                for name, amount in (("cpus", 0.1), ("mem", 32)):
                    resource = task.resources.add()
                    resource.name, resource.type = name, mesos_pb2.Value.SCALAR
                    resource.scalar.value = amount
                tasks.append(task)
            filters = mesos_pb2.Filters()
            filters.refuse_seconds = 0.5
            driver.launchTasks([offer.id], tasks, filters)

    def statusUpdate(self, driver, update):
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
            framework.waiting.append(line.split()[1])
            driver.reviveOffers()

    reader = threading.Thread(target=obey)
    reader.daemon = True
    reader.start()
    driver.run()


main()
