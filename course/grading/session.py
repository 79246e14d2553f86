"""A student's notebook, running in its own process, as the examiner sees it."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

from course.grading import sandbox, watch, worker
from course.grading.limits import Limits
from course.grading.sandbox import Isolation
from course.grading.wire import Channel, Gone, Peer, RemoteError

GRACE = 5.0  # seconds beyond a time limit after which a process is killed that could not be interrupted
STARTING = 120.0  # seconds in which Python must have started
STARTS = 12  # times that a notebook is begun anew after its process has died


class GradingFailed(Exception):
    """Something failed that is no fault of the submission's."""


class Session:
    """Runs the cells, then answers for what they defined.

    A process that dies is replaced and the cells run again, without those that killed it: one deadly answer
    costs its own points and no others. `notes` says what happened, `outputs` holds what each cell showed.
    """

    def __init__(
        self, cells: Sequence[str], limits: Limits, isolation: Isolation, watching: watch.Watch
    ) -> None:
        self.cells, self.limits, self.isolation, self.watch = list(cells), limits, isolation, watching
        self.notes: list[str] = []
        self.outputs: list[dict[str, Any]] = [{} for _ in cells]
        self.deadly: set[int] = set()
        self.starts = 0
        self.peer: Peer | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.folder: TemporaryDirectory[str] | None = None

    def fetch(self, name: str) -> Any:
        """What the notebook has under a name; raises RemoteError where it has nothing, and Gone."""
        return self._timed(worker.FETCH, name)

    def ready(self) -> None:
        """See to it that a process is there in which the cells have run; raises Gone."""
        while self.peer is None:
            if self.watch.over:
                raise Gone(self.watch.reason or f"the notebook used up its {self.limits.total_seconds:g} s")
            if self.starts == STARTS:
                raise Gone(f"the notebook's process has died {STARTS} times")
            self.starts += 1
            self._start()
            self._run_cells()

    def begin_check(self) -> None:
        """The check may take the time of one cell; what earlier checks handed over is out of reach."""
        assert self.peer
        self.peer.exports.clear()
        self._allow()

    def confirm(self) -> None:
        """Raises Gone where the process has ended, even if a check swallowed that news."""
        if self.process is None or self.process.poll() is not None:
            raise Gone("its process has ended")

    def close(self) -> None:
        """End the process and everything that it started."""
        self.peer = None
        if self.process:
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe:
                    with suppress(OSError):
                        pipe.close()
            self.process.kill()
            watch.end_children()
            self.process.wait()
            self.process = None
        if self.folder:
            self.folder.cleanup()
            self.folder = None

    def why(self, gone: Gone) -> str:
        """The reason for which the process is gone, as far as it is known."""
        if self.process and not self.watch.reason:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.3)
        return self.watch.reason or str(gone)

    def _start(self) -> None:
        self.folder = TemporaryDirectory(prefix="submission-", ignore_cleanup_errors=True)
        home = "/tmp" if self.isolation.on else self.folder.name
        told = json.dumps(sandbox.settings(self.isolation, self.limits))
        command = [sys.executable, "-P", "-m", "course.grading.worker", told]
        with self.watch.lock:
            self.watch.reason = ""
            self.process = subprocess.Popen(
                [*sandbox.prefix(self.isolation, self.limits), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self.folder.name,
                env=sandbox.environment(home),
                start_new_session=True,
            )
        lives, read, write = self.process, self.process.stdout, self.process.stdin
        assert read and write
        channel = Channel(read.fileno(), write.fileno(), alive=lambda: lives.poll() is None)
        channel.deadline = time.monotonic() + STARTING
        self.peer = Peer(channel)
        try:
            self.peer.call(worker.FETCH, "__name__")
        except Gone as gone:
            why = f"{self.why(gone)}; is the memory limit too low?"
            raise GradingFailed(f"the process for the notebook did not start: {why}") from gone
        self.watch.begin()

    def _run_cells(self) -> None:
        for number, code in enumerate(self.cells):
            if number in self.deadly:
                continue
            try:
                output = self._timed(worker.RUN, code)
            except RemoteError as error:
                output = {"text": f"{error.kind}: {error}", "error": error.kind}
            except Gone as gone:
                reason = self.why(gone)
                self.close()
                self.deadly.add(number)
                told = f"ended the notebook's process ({reason})"
                self.outputs[number] = {"text": f"[This cell {told}.]", "error": "Gone"}
                self.notes.append(f"code cell {number + 1} {told} and is left out")
                return
            self.outputs[number] = output if isinstance(output, dict) else {}

    def _timed(self, target: int, *args: Any) -> Any:
        assert self.peer
        self._allow()
        return self.peer.call(target, *args)

    def _allow(self) -> None:
        if self.peer:
            end = min(time.monotonic() + self.limits.cell_seconds, self.watch.end)
            self.peer.channel.deadline = end + GRACE
