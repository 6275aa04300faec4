"""Progress of long work, told to a person on standard error.

The library knows only a callable `(stage, done, total)`; this is the command line's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

Report = Callable[[str, int, int], None]
"""What jobs call: the stage's name, how much is done, and of how much (0: not known)."""


class Progress:
    """Writes one line a stage: redrawn in place on a terminal, else a line every so often.

    quiet: say nothing; every: least seconds between two lines of one stage (default 0.1 on
    a terminal, 5 otherwise). The first and the last step of a stage are always told.
    """

    def __init__(
        self,
        quiet: bool = False,
        stream: TextIO | None = None,
        every: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._quiet, self._clock = quiet, clock
        self._live = self._stream.isatty()
        self._every = (0.1 if self._live else 5.0) if every is None else every
        self._stage, self._told, self._open = "", float("-inf"), False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell that `done` of `total` steps of a stage are done."""
        if self._quiet:
            return
        now, last = self._clock(), bool(total) and done >= total
        if stage != self._stage:
            self.close()
            self._stage = stage
        elif not last and now - self._told < self._every:
            return
        self._told = now
        self._write(f"{stage} {done}/{total}" if total else f"{stage} {done}", last)

    def close(self) -> None:
        """End a line that is still open."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
            self._open = False

    def _write(self, text: str, last: bool) -> None:
        if self._live:
            self._stream.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
            self._open = not last
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()
