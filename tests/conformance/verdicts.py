"""What is the same as in the original, what differs on purpose and why, what is missing on one side.

`python verdicts.py >../../dcos-sched/docs/differential.md` asks our programs everything that was
asked of the original (`differential.py`, `recorded/mesos-1.11.json`) and writes the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORDED = json.loads((Path(__file__).parent / "recorded" / "mesos-1.11.json").read_text())

# Name of the call -> why our answer differs.
INTENDED = {
    "scheduler: not JSON": "says where and why the text is no JSON",
    "operator: not JSON": "says where and why the text is no JSON",
    "scheduler: subscribe lacking user": "names the field the same, in other words",
    "scheduler: JSON but no object": "says what was found instead of an object",
    "scheduler: acknowledge with no base64": "names the field by its place in the document",
    "scheduler: protobuf that is none": "says why the bytes are no Call",
    "executor: not JSON": "says where and why the text is no JSON",
    "executor: empty object": "names the first field that is missing, in other words",
    **dict.fromkeys(
        (f"{call}, not JSON" for call in (
            "POST /machine/down", "POST /maintenance/schedule", "POST /quota", "PUT /weights", "POST /reserve",
            "POST /unreserve", "POST /create-volumes", "POST /destroy-volumes")),
        "says where and why the text is no JSON",
    ),
    "agent GET /metrics/snapshot?timeout=x": "says what a duration looks like",
    "POST /quota, no role": "says that the role is missing, instead of that no role is no valid one",
    **dict.fromkeys(
        (f"agent operator {call} with a {task} task"
         for call in ("GET_EXECUTORS", "GET_STATE") for task in ("running", "killed")),
        "a command task's executor is its command: there is no program of the agent with arguments",
    ),
}

# The start of a call's name -> what is not there yet, or never will be.
MISSING: dict[str, str] = {
    "GET /metrics/snapshot?timeout": "here: the master takes no timeout, since it waits for nothing",
    "GET /help": "here: pages of help about endpoints; the documentation is elsewhere",
    "agent GET /help": "here: pages of help about endpoints; the documentation is elsewhere",
    "GET /__processes__": "here: there are no libprocess processes to list",
    "agent GET /__processes__": "here: there are no libprocess processes to list",
    "GET /profiler": "here: gperftools, which the original is not built with either",
    "agent GET /profiler": "here: gperftools, which the original is not built with either",
    "GET /memory-profiler": "here: no profiler, which the original has with `--memory_profiling`; 501 and why",
    "agent GET /memory-profiler": "here: no profiler, which the original has with `--memory_profiling`; 501 and why",
    "GET /hierarchical-allocator": "here: `/allocator/explain` says more",
    "GET /registrar": "here: the registry is in a store with tools of its own",
}


def differences(original: Any, answer: Any, where: str = "") -> Iterator[str]:
    """What of `original` is missing or different in `answer`. Keys of ours beside it are fine."""
    if isinstance(original, dict) and isinstance(answer, dict):
        for key, value in original.items():
            if key not in answer:
                yield f"{where}.{key} is missing"
            else:
                yield from differences(value, answer[key], f"{where}.{key}")
    elif isinstance(original, list) and isinstance(answer, list):
        if original and answer:
            yield from differences(original[0], answer[0], f"{where}[0]")
        elif original:
            yield f"{where} is empty"
    elif original != answer:
        yield f"{where}: {answer!r} instead of {original!r}"


def missing(name: str) -> str | None:
    return next((why for start, why in MISSING.items() if name.startswith(start)), None)


def compared(name: str, ours: dict[str, dict]) -> list[str]:
    """The differences of one answer, but for those on purpose."""
    original, answer = dict(RECORDED[name]), dict(ours.get(name, {}))
    if name in INTENDED:
        original.pop("body", None), answer.pop("body", None)
    if "jsonp" in name and original.get("body"):
        # What is called, not what it is called with.
        original["body"], answer["body"] = (
            str(each.get("body")).split("(")[0] for each in (original, answer))
    return list(differences(original, answer))


def table(ours: dict[str, dict]) -> Iterator[str]:
    """A page of Markdown."""
    rows: dict[str, list[tuple[str, str]]] = {"equal": [], "on purpose": [], "missing": [], "different": []}
    for name in sorted(RECORDED):
        found = compared(name, ours)
        if why := missing(name):
            rows["missing" if found else "equal"].append((name, why if found else ""))
        elif found:
            rows["different"].append((name, "; ".join(found)[:160]))
        else:
            rows["on purpose" if name in INTENDED else "equal"].append((name, INTENDED.get(name, "")))
    count = ", ".join(f"{len(found)} {verdict}" for verdict, found in rows.items())
    yield "# Every call and route, beside an original Mesos 1.11"
    yield ""
    yield "Written by `tests/conformance/verdicts.py`. Compared are status, headers, texts, keys and types of the"
    yield "answers of a master and an agent; what only we answer beside that is not listed."
    yield ""
    yield f"{len(RECORDED)} answers: {count}."
    yield ""
    yield "Never asked, because the original dies of it: `REMOVE_QUOTA` of a role that has none, `REMOVE_CONTAINER` of"
    yield "a container that is none, `/containerizer/debug` of an agent inside of a master's process. Ours answer 400,"
    yield "404 and an empty list."
    titles = {"on purpose": ("Different on purpose", "why"), "missing": ("Missing", "where, and why"),
              "different": ("Different", "how"), "equal": ("Equal", "")}
    for verdict, (title, column) in titles.items():
        if not rows[verdict]:
            continue
        yield ""
        yield f"## {title}"
        yield ""
        if column:
            yield f"| call | {column} |"
            yield "|---|---|"
            for name, why in rows[verdict]:
                yield f"| `{escaped(name)}` | {escaped(why)} |"
        else:
            yield ", ".join(f"`{escaped(name)}`" for name, _ in rows[verdict]) + "."


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("`", "'")


if __name__ == "__main__":
    import differential
    from cluster import Cluster

    with Cluster(master_flags={"without": "marathon,metronome"}) as cluster:
        print("\n".join(table(differential.answers(cluster.master))))
