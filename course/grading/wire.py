"""Calls between the checks and the notebook under check, which run in two processes.

Both ends are peers: each may call the functions that the other has handed over. So a check can give a
student's function a denoiser, and the student's function asks it as often as it likes.
"""

import builtins
import json
import os
import selectors
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from course.grading.values import decode, encode

MAX_MESSAGE = 32 * 2**20  # bytes
KNOWN_ERRORS = {  # raised on this side as what they were on the other
    *("ArithmeticError", "AssertionError", "AttributeError", "FileNotFoundError", "IndexError", "KeyError"),
    *("LookupError", "MemoryError", "NameError", "NotImplementedError", "OSError", "RecursionError"),
    *("RuntimeError", "TypeError", "ValueError", "ZeroDivisionError"),
}


class Gone(BaseException):
    """The other process has ended, is too late, or talks nonsense. No `except Exception` hides it."""


class RemoteError(Exception):
    """What was raised on the other side; `kind` names its type. Of a common type it is an instance, too."""

    kind = "Exception"


def remote_error(kind: str, text: str) -> RemoteError:
    """An error to raise here for one that was raised there."""
    bases = (RemoteError, getattr(builtins, kind)) if kind in KNOWN_ERRORS else (RemoteError,)
    error: RemoteError = type(kind, bases, {"kind": kind, "__str__": lambda self: text})(text)
    return error


class Channel:
    """JSON messages over two pipes, each whole or not at all. A message that cannot pass raises Gone."""

    def __init__(self, read: int, write: int, alive: Callable[[], bool] = lambda: True) -> None:
        self.read, self.write, self.alive = read, write, alive
        self.deadline = float("inf")  # on the clock of time.monotonic
        os.set_blocking(read, False)
        os.set_blocking(write, False)

    def send(self, message: Any) -> None:
        """Raises ValueError, before a byte is sent, where the message is too long."""
        data = json.dumps(message).encode()
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"a value of {len(data) >> 20} MB is too large: at most {MAX_MESSAGE >> 20} MB")
        view = memoryview(len(data).to_bytes(8, "big") + data)
        while view:
            self._wait(self.write, selectors.EVENT_WRITE)
            try:
                view = view[os.write(self.write, view) :]
            except OSError as error:
                raise Gone("its process has ended") from error

    def receive(self) -> Any:
        """The next message."""
        size = int.from_bytes(self._exactly(8), "big")
        if size > MAX_MESSAGE:
            raise Gone("its process sent more than a message may hold")
        try:
            return json.loads(self._exactly(size))
        except (ValueError, RecursionError) as error:
            raise Gone("its process sent what is no message") from error

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(self.read, selectors.EVENT_READ)
            try:
                piece = os.read(self.read, min(size - len(data), 2**20))
            except OSError as error:
                raise Gone("its process has ended") from error
            if not piece:
                raise Gone("its process has ended")
            data += piece
        return bytes(data)

    def _wait(self, pipe: int, event: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            ready = False
            while not ready:
                ready = bool(selector.select(0.1))
                if not ready and not self.alive():
                    raise Gone("its process has ended")
                if time.monotonic() > self.deadline:
                    raise Gone("it did not stop at its time limit")


class Peer:
    """One end of a channel; the other end may call `exports` by number.

    around: a block in which each call from outside runs. An exception that must not tear a message apart is
    left in `late` while `busy`, and raised when the message is through.
    """

    def __init__(
        self,
        channel: Channel,
        exports: tuple[Callable[..., Any], ...] = (),
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.channel, self.exports, self.around = channel, list(exports), around
        self.busy = 0
        self.late: BaseException | None = None

    def call(self, target: int, *args: Any, **kwargs: Any) -> Any:
        """What the other side's function returns. Raises RemoteError for what it raises, and Gone."""
        told = [encode(part, self._hand_over) for part in (args, kwargs)]
        self.busy += 1
        try:
            self.channel.send({"call": target, "args": told[0], "kwargs": told[1]})
            while "call" in (message := _mapping(self.channel.receive())):
                self.serve(message)
        finally:
            self.busy -= 1
        if self.late and not self.busy:
            late, self.late = self.late, None
            raise late
        if "error" in message:
            raise remote_error(str(message["error"])[:100], str(message.get("text"))[:2000])
        try:
            return decode(message.get("value"), self._take)
        except Exception as error:
            raise Gone(f"its process answered what is no value ({type(error).__name__})") from error

    def serve(self, message: Mapping[str, Any]) -> None:
        """Make one call that the other side asked for, and send back what came of it."""
        try:
            function = self.exports[message["call"]]
            args, kwargs = decode(message["args"], self._take), decode(message["kwargs"], self._take)
            with self.around():
                answer = {"value": encode(function(*args, **kwargs), self._hand_over)}
            self.channel.send(answer)
        except Gone:
            raise
        except BaseException as error:
            kind = error.kind if isinstance(error, RemoteError) else type(error).__name__
            self.channel.send({"error": kind, "text": _text(error)})

    def serve_forever(self) -> None:
        """Until the other side is gone. An answer that nobody waits for any more is dropped."""
        while True:
            message = _mapping(self.channel.receive())
            if "call" in message:
                self.serve(message)

    def _hand_over(self, function: Callable[..., Any]) -> dict[str, int]:
        if isinstance(function, Remote) and function.peer is self:
            return {"yours": function.target}
        for number, known in enumerate(self.exports):
            if known is function:
                return {"mine": number}
        self.exports.append(function)
        return {"mine": len(self.exports) - 1}

    def _take(self, tag: str, number: int) -> Any:
        if tag == "mine":
            return Remote(self, number)
        if tag == "yours":
            return self.exports[number]
        raise ValueError(f"unknown tag {tag!r}")


class Remote:
    """A function that lives on the other side."""

    def __init__(self, peer: Peer, target: int) -> None:
        self.peer, self.target = peer, target

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.peer.call(self.target, *args, **kwargs)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except BaseException:  # its __str__ is a student's as well
        return ""


def _mapping(message: Any) -> Mapping[str, Any]:
    if not isinstance(message, dict):
        raise Gone("its process sent what is no message")
    return message
