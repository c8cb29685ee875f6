"""Looking again and again, for as long as somebody waits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 1.0


class Patience:
    """The pauses between looks: short at first, longer the longer it takes, and never past the end of the time there is."""

    def __init__(self, timeout: float | None = None) -> None:
        self._end = math.inf if timeout is None else time.monotonic() + timeout
        self.renew()

    def renew(self) -> None:
        """Something happened: the pauses are short again."""
        self._pause = SHORTEST_SECONDS

    def pause(self, late: Callable[[], Exception] | None = None) -> float:
        """The seconds to the next look; raises what `late` makes once no time is left."""
        left = self._end - time.monotonic()
        if left <= 0 and late is not None:
            raise late()
        pause = max(0.0, min(self._pause, left))
        self._pause = min(self._pause * 1.2, LONGEST_SECONDS)
        return pause
