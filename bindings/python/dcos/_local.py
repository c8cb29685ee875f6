"""A development cluster on this machine."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from dcos._cluster import Cluster, connect
from dcos._errors import DcosError


class LocalCluster:
    """A cluster of one node for as long as a `with` block lasts.

    It is started by the program `dcos` (from the path, or `program`), on free ports and in a directory
    of its own (`directory`, or a temporary one), and leaves nothing behind.

    >>> with LocalCluster() as cluster:                                 # doctest: +SKIP
    ...     cluster.deploy({"id": "/hello", "cmd": "sleep 100"}).wait(timeout=30)
    """

    def __init__(self, *, directory: str | Path | None = None, program: str | Path | None = None) -> None:
        self._given = Path(directory) if directory else None
        self._program = str(program or shutil.which("dcos") or "dcos")
        self._directory: Path | None = None

    def __enter__(self) -> Cluster:
        self._directory = self._given or Path(tempfile.mkdtemp(prefix="dcos-local-"))
        try:
            told = self._dcos("up", "--free-ports")
            return connect(told["master"], marathon=told["marathon"], metronome=told["metronome"])
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if not self._directory:
            return
        try:
            self._dcos("down")
        finally:
            if not self._given:
                shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    async def __aenter__(self) -> Cluster:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.__exit__)

    def _dcos(self, *words: str) -> dict[str, str]:
        command = [self._program, "local", *words, "--json", "--dir", str(self._directory)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise DcosError(f"the program {self._program!r} is not there; build it or pass `program=`") from None
        if done.returncode:
            raise DcosError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
        return json.loads(done.stdout or "{}")
