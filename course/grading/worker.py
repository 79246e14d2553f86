"""The process in which a student's notebook runs. It holds no check and no solution, and nobody trusts it.

Started by the examiner as `python -m course.grading.worker SETTINGS`, inside the sandbox where there is
one. It takes calls over its first two pipes: run a cell, fetch a name, and calls of the functions that were
fetched.
"""

import io
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from course.grading.wire import Channel, Gone, Peer

RUN, FETCH = 0, 1  # numbers of the functions that the examiner may call from the start
SPACE = 4 * 2**30  # bytes of address space beyond the memory limit: torch maps more than it uses


class TooSlow(BaseException):
    """A time limit has passed. Not an Exception, so that `except Exception` does not swallow it."""


class Kept(io.StringIO):
    """Standard output of which the first `room` characters are kept and the rest is dropped."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.dropped = room, 0

    def write(self, text: str) -> int:
        kept = text[: max(self.room - self.tell(), 0)]
        self.dropped += len(text) - len(kept)
        super().write(kept)
        return len(text)

    def text(self) -> str:
        return self.getvalue() + (f"\n[{self.dropped} more characters]" if self.dropped else "")


def restrict(settings: dict[str, Any]) -> None:
    """Become nobody, where root has started us, and take on limits that cannot be raised again."""
    if settings["uid"]:
        os.setgroups([])
        os.setresgid(*[settings["uid"]] * 3)
        os.setresuid(*[settings["uid"]] * 3)
    memory, room = settings["memory_mb"] * 2**20, settings["file_mb"] * 2**20
    wanted = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_AS: memory + SPACE,
        resource.RLIMIT_FSIZE: room,
        resource.RLIMIT_NPROC: settings["tasks"],
        resource.RLIMIT_CPU: int(settings["total_seconds"]) + 60,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
    }
    for name, value in wanted.items():
        _, hard = resource.getrlimit(name)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


class Notebook:
    """A student's cells and what they have defined."""

    def __init__(self, output_chars: int) -> None:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        self.shell = InteractiveShell.instance(config=config)
        self.output_chars = output_chars

    def run(self, code: str) -> dict[str, Any]:
        """What a cell printed and showed, and the error that ended it."""
        from IPython.core.displayhook import CapturingDisplayHook
        from IPython.core.displaypub import CapturingDisplayPublisher

        kept, shell = Kept(self.output_chars), self.shell
        shown: list[Any] = []
        publisher, hook = CapturingDisplayPublisher(), CapturingDisplayHook(shell, outputs=shown)
        publisher.outputs = shown
        before = shell.display_pub, shell.display_trap.hook
        shell.display_pub, shell.display_trap.hook = publisher, hook
        try:
            with redirect_stdout(kept), redirect_stderr(kept):
                result = shell.run_cell(code, store_history=False)
        finally:
            shell.display_pub, shell.display_trap.hook = before
        error = result.error_before_exec or result.error_in_exec
        outputs = [_shown(dict(output)["data"], self.output_chars) for output in shown[:50]]
        return {"text": kept.text(), "shown": outputs, "error": type(error).__name__ if error else ""}

    def fetch(self, name: str) -> Any:
        """What the notebook has under a name."""
        if name not in self.shell.user_ns:
            raise NameError(f"name '{name}' is not defined")
        return self.shell.user_ns[name]


def _shown(data: dict[str, Any], output_chars: int) -> dict[str, str]:
    picture = data.get("image/png")
    if isinstance(picture, str) and len(picture) < 2**20:
        return {"png": picture.replace("\n", "")}
    return {"text": str(data.get("text/plain", ""))[:output_chars]}


def alarmed(seconds: float) -> tuple[Callable[[Peer], None], Callable[[], Any]]:
    """A block whose code is interrupted after `seconds`, but never in the middle of a message."""
    peers: list[Peer] = []
    running: list[bool] = []

    def ring(number: int, frame: Any) -> None:
        late = TooSlow(f"took longer than {seconds:g} s")
        if not peers[0].busy:
            raise late
        peers[0].late = late

    @contextmanager
    def around() -> Iterator[None]:
        if running:
            yield  # a call within a call: the outer one's time runs on
            return
        running.append(True)
        peers[0].late = None
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            running.clear()

    return peers.append, around


def main() -> None:
    """Serve the examiner until it hangs up."""
    settings = json.loads(sys.argv[1])
    channel = Channel(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # whatever a student's code writes past Python's own streams goes nowhere
        os.dup2(nothing, stream)
    restrict(settings)
    notebook = Notebook(settings["output_chars"])
    introduce, around = alarmed(settings["cell_seconds"])
    peer = Peer(channel, (notebook.run, notebook.fetch), around)
    introduce(peer)
    try:
        peer.serve_forever()
    except Gone:
        os._exit(0)


if __name__ == "__main__":
    main()
