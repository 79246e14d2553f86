"""How a submission's processes are watched, and ended."""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil  # type: ignore[import-untyped]

from course.grading.limits import Limits

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on a descendant whose parent ends becomes this process's child; `end_children` finds it."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def living_children() -> list[psutil.Process]:
    """All descendants of this process that still run; those that have ended may wait to be reaped."""
    return [child for child in psutil.Process().children(recursive=True) if _lives(child)]


def end_children() -> None:
    """Kill all descendants of this process, those too that are born meanwhile."""
    for _ in range(100):
        if not (children := living_children()):
            return
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=0.2)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Watch(threading.Thread):
    """Ends this process's descendants when they are too many, too large or too late; `reason` says which.

    Also when `parent`, which started this process, is no more. Whoever starts a process holds `lock`, so that
    it is never born into the end of the one before.
    """

    def __init__(self, limits: Limits, parent: int, when_orphaned: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.limits, self.parent, self.when_orphaned = limits, parent, when_orphaned
        self.end = float("inf")
        self.reason = ""
        self.lock = threading.Lock()

    def begin(self) -> None:
        """Start the clock of the whole submission, once: when Python has started, which takes its time."""
        if self.end == float("inf"):
            self.end = time.monotonic() + self.limits.total_seconds

    @property
    def over(self) -> bool:
        """Whether the time for the whole submission has passed."""
        return time.monotonic() > self.end

    def run(self) -> None:
        while True:
            time.sleep(0.2)
            with self.lock:
                if reason := self.excess():
                    self.reason = reason
                    end_children()
            if os.getppid() != self.parent:
                end_children()
                self.when_orphaned()

    def excess(self) -> str:
        """The limit that is passed just now, in words, or nothing."""
        children = living_children()
        used = 0
        for child in children:
            with suppress(psutil.NoSuchProcess):
                used += child.memory_info().rss
        if self.over and children:
            return f"the notebook used up its {self.limits.total_seconds:g} s"
        if len(children) > self.limits.processes + 3:  # bubblewrap's own two, and the worker
            return f"it started more than {self.limits.processes} processes"
        if used > self.limits.memory_mb * 2**20:
            return f"it used more than {self.limits.memory_mb} MB of memory"
        return ""
