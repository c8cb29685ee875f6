"""What is the same as in the original, what differs on purpose and why, what is missing on one side.

`python verdicts.py >../../dcos-sched/docs/differential.md` asks our programs everything that was asked of the original
and writes the table: calls and routes (`differential.py`), operators' orders (`differential_orders.py`), and what strangers
and those who may not are told (`security.py`); the original's answers are in `recorded`.
"""

from __future__ import annotations

import json
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RECORDED = json.loads((Path(__file__).parent / "recorded" / "mesos-1.11.json").read_text())

# Name of the call -> why our answer differs.
INTENDED = {
    "GET /state.json": "the same as `/state`, since `dcoscli` 0.6.1 asks for it",
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

# What only our master answers.
THERE = {
    "/metrics": "the metrics for Prometheus",
    "/allocator/explain?framework_id=none": "why offers are as they are; the original shows constraints only",
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


# What the original has no more, and what it is the same as; the reason is with those on purpose.
ANSWERED = {"GET /state.json": "GET /state"}


def missing(name: str) -> str | None:
    return next((why for start, why in MISSING.items() if name.startswith(start)), None)


def compared(name: str, ours: dict[str, dict]) -> list[str]:
    """The differences of one answer, but for those on purpose."""
    if name in ANSWERED:
        original = ours[ANSWERED[name]]
        return list(differences(original, ours[name])) if original != ours[name] else []
    original, answer = dict(RECORDED[name]), dict(ours.get(name, {}))
    if name in INTENDED:
        original.pop("body", None), answer.pop("body", None)
    if "jsonp" in name and original.get("body"):
        # What is called, not what it is called with.
        original["body"], answer["body"] = (
            str(each.get("body")).split("(")[0] for each in (original, answer))
    return list(differences(original, answer))


# A verdict and the reason for it.
Verdict = tuple[str, str]
VERDICTS = {
    "equal": ("Equal", ""), "on purpose": ("Different on purpose", "why"), "missing here": ("Missing here", "why"),
    "missing there": ("Missing there", "what ours does"), "not compared": ("Not compared", "why"),
    "different": ("Different", "how"),
}


def of_calls(ours: dict[str, dict]) -> Callable[[str], Verdict]:
    """How our answers to calls and routes compare."""

    def verdict(name: str) -> Verdict:
        found = compared(name, ours)
        if why := missing(name):
            return ("missing here", why.removeprefix("here: ")) if found else ("equal", "")
        if found:
            return "different", "; ".join(found)[:160]
        return ("on purpose", INTENDED[name]) if name in INTENDED else ("equal", "")

    return verdict


def of_orders(ours: dict[str, dict]) -> Callable[[str], Verdict]:
    """How our answers to operators' orders compare."""
    from test_differential_orders import INTENDED, MORE, RECORDED, ordered

    def verdict(name: str) -> Verdict:
        if name in MORE:
            return "missing there", MORE[name][1]
        if ordered(ours[name]) == ordered(RECORDED[name]):
            return "equal", ""
        return ("on purpose", INTENDED[name]) if name in INTENDED else ("different", str(ours[name])[:160])

    return verdict


def of_security(ours: dict[str, dict]) -> Callable[[str], Verdict]:
    """How our answers to strangers compare."""
    from test_security import INTENDED, RECORDED, UNGUARDED

    def verdict(name: str) -> Verdict:
        if any(path in name for path in UNGUARDED):
            return "not compared", "the recorded master ran inside a program that did not guard the path"
        if ours[name] == RECORDED[name]:
            return "equal", ""
        why = "whoever may not is told so before the machines are looked at"
        return ("on purpose", why) if name in INTENDED else ("different", str(ours[name])[:160])

    return verdict


def section(title: str, names: list[str], verdict: Callable[[str], Verdict], more: dict[str, str]) -> Iterator[str]:
    """One recording, as Markdown."""
    rows: dict[str, list[tuple[str, str]]] = {verdict: [] for verdict in VERDICTS}
    for name in sorted(names):
        found, why = verdict(name)
        rows[found].append((name, why))
    count = ", ".join(f"{len(found)} {verdict}" for verdict, found in rows.items() if found)
    rows["missing there"] += more.items()
    yield ""
    yield f"## {title}"
    yield ""
    yield f"{len(names)} answers: {count}; {len(rows['different'])} different otherwise."
    for verdict, (heading, column) in VERDICTS.items():
        if not rows[verdict] or verdict == "equal":
            continue
        yield ""
        yield f"### {heading}"
        yield ""
        yield f"| call | {column} |"
        yield "|---|---|"
        for name, why in rows[verdict]:
            yield f"| `{escaped(name)}` | {escaped(why)} |"
    yield ""
    yield "### Equal"
    yield ""
    yield ", ".join(f"`{escaped(name)}`" for name, _ in rows["equal"]) + "."


def page(sections: list[Iterator[str]]) -> Iterator[str]:
    """All of it, as Markdown."""
    yield "# Every call and route, beside an original Mesos 1.11"
    yield ""
    yield "Written by `tests/conformance/verdicts.py`, and held by the tests beside it. Compared with what an original master"
    yield "and agent answered: of calls and routes status, headers, texts, keys and types (values are ids, times and load);"
    yield "of orders and of what strangers are told the whole answers, values included."
    yield ""
    yield "Never asked, because the original dies of it: `REMOVE_QUOTA` of a role that has none, `REMOVE_CONTAINER` of"
    yield "a container that is none, `/containerizer/debug` of an agent inside of a master's process. Ours answer 400,"
    yield "404 and an empty list."
    for lines in sections:
        yield from lines


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("`", "'")


def answered(master: str) -> dict[str, str]:
    """What only ours has, once it was seen to be there."""
    for path in THERE:
        with urllib.request.urlopen(f"http://{master}{path}", timeout=60) as answer:
            assert answer.status == 200, path
    return {f"GET {path}": what for path, what in THERE.items()}


def main() -> None:
    import differential
    import differential_orders
    import security
    import test_differential_orders
    import test_security
    from cluster import Cluster

    alone = {"without": "marathon,metronome"}
    sections = []
    with Cluster(master_flags=alone) as cluster:
        more = answered(cluster.master)
        verdict = of_calls(differential.answers(cluster.master))
        sections.append(section("Calls and routes", list(RECORDED), verdict, more))
    with Cluster({"launcher": "posix", "isolation": "posix/cpu,posix/mem", "hostname": "node"}, alone) as cluster:
        verdict = of_orders(differential_orders.answers(cluster.master))
        sections.append(section("Orders of operators", list(test_differential_orders.RECORDED), verdict, {}))
    with tempfile.TemporaryDirectory() as folder, test_security.guarded(Path(folder)) as address:
        verdict = of_security(security.answers(address))
        sections.append(section("Strangers, and those who may not", list(test_security.RECORDED), verdict, {}))
    print("\n".join(page(sections)))


if __name__ == "__main__":
    main()
