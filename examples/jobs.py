"""Jobs in Python: some that run now, one that runs every night.

    make python
    .venv/bin/python examples/jobs.py http://127.0.0.1:5050

prints, with a cluster running there (`make up`):

    count to 1: succeeded
    count to 2: succeeded
    count to 3: failed
    nightly: next at 2026-11-23 01:30:00+00:00
"""

import asyncio
import sys

import dcos


def job(name: str, cmd: str) -> dict:
    return {"id": f"example.{name}", "run": {"cmd": cmd, "cpus": 0.1, "mem": 32, "disk": 0}}


async def count(cluster: dcos.Cluster, to: int) -> None:
    made = await cluster.add_job_async(job(f"count{to}", f"seq {to}; test {to} -lt 3"))
    run = await (await made.run_async()).wait_async(timeout=60)
    print(f"count to {to}: {'succeeded' if run.succeeded else 'failed'}")
    await made.remove_async()


async def main(master: str) -> None:
    cluster = dcos.connect(master)
    for to in (1, 2, 3):
        await count(cluster, to)
    nightly = cluster.add_job(
        job("nightly", "echo good night"), schedule=dcos.Schedule("half-past-two", "30 2 * * *", "Europe/Rome")
    )
    print("nightly: next at", nightly.schedules()[0].next_run_at)
    nightly.remove()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:5050"))
