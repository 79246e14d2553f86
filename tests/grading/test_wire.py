"""What crosses between the processes, and what malformed messages do: fail, and nothing else."""

import os
import threading

import numpy as np
import pytest

from course.grading.values import decode, encode
from course.grading.wire import Channel, Gone, Peer, RemoteError


@pytest.fixture
def pair():
    """A peer, and one that serves it from a thread, with functions of its own."""
    there, here = os.pipe(), os.pipe()

    def fails():
        raise SystemExit("so it is")

    functions = (lambda f, x: f(x) + 1, lambda x: x, fails, lambda: lambda x: 2 * x, lambda: object())
    far = Peer(Channel(there[0], here[1]), functions)

    def serve():
        try:
            far.serve_forever()
        except Gone:
            os.close(here[1])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield Peer(Channel(here[0], there[1]))
    os.close(there[1])
    thread.join(5)
    assert not thread.is_alive()
    for number in (there[0], here[0]):
        os.close(number)


@pytest.mark.parametrize(
    "value",
    [None, True, 3, -(2**80), 0.1, float("inf"), "ü\n", [1, (2.5, None)], {"a": 1, 2: [3]}, [], {}],
)
def test_plain_values_cross_unchanged(value, pair):
    back = pair.call(1, value)
    assert back == value and type(back) is type(value)


def test_arrays_and_iterators_cross(pair):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    back = pair.call(1, array)
    assert back.dtype == array.dtype and np.array_equal(back, array)
    assert pair.call(1, iter("ab")) == ["a", "b"]
    assert np.isnan(pair.call(1, float("nan")))


def test_functions_are_called_where_they_live(pair):
    calls = []
    assert pair.call(0, lambda x: calls.append(x) or 10 * x, 4) == 41 and calls == [4]
    double = pair.call(3)
    assert double(21) == 42
    assert pair.call(0, double, 5) == 11, "a function that comes home is called at home"


def test_errors_keep_their_kind(pair):
    def bad(x):
        raise ValueError("so it is")

    with pytest.raises(ValueError, match="so it is") as caught:
        pair.call(0, bad, 1)  # from here, through the other side, and back
    assert isinstance(caught.value, RemoteError)
    with pytest.raises(RemoteError, match="so it is") as caught:
        pair.call(2)
    assert caught.value.kind == "SystemExit"


def test_an_object_with_a_will_of_its_own_does_not_cross(pair):
    with pytest.raises(TypeError, match="cannot be handed over"):
        pair.call(4)
    with pytest.raises(TypeError, match="cannot be handed over"):
        pair.call(1, object())


@pytest.mark.parametrize(
    "message",
    [
        7,
        [1],
        {},
        {"int": "x" * 10},
        {"int": [1]},
        {"float": {}},
        {"list": 3},
        {"dict": [[{"list": []}, 1]]},
        {"array": {"dtype": "object", "shape": [1], "data": ""}},
        {"array": {"dtype": "float32", "shape": [10**9, 10**9], "data": ""}},
        {"array": {"dtype": "float32", "shape": [-1], "data": "AAAA"}},
        {"array": {"dtype": "float32", "shape": [1], "data": "!!!!"}},
        {"dataclass": {"module": "subprocess", "name": "Popen", "fields": {}}},
        {"dataclass": {"module": "course.grading.limits", "name": "Limits", "fields": {}}},
        {"dataclass": {"module": "course.core.no_such_file", "name": "Schedule", "fields": {}}},
        {"pickle": 3},
        {"int": 1, "float": "2"},
    ],
)
def test_malformed_values_are_refused(message):
    def take(tag, number):
        raise ValueError(tag)

    with pytest.raises((KeyError, IndexError, TypeError, ValueError, AttributeError, ImportError)):
        decode(message, take)


def test_unknown_kinds_cannot_be_encoded():
    for value in (object(), {1, 2}, np.array([object()]), np.array(["text"]), int):
        with pytest.raises(TypeError, match="cannot be handed over"):
            encode(value, lambda function: {"mine": 0})


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 7, (2**60).to_bytes(8, "big"), (3).to_bytes(8, "big") + b"{{{"]
)
def test_a_broken_stream_is_gone(data):
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    with pytest.raises(Gone):
        Channel(read, os.open(os.devnull, os.O_WRONLY)).receive()


def test_silence_ends_at_the_deadline():
    read, _write = os.pipe()
    channel = Channel(read, os.open(os.devnull, os.O_WRONLY))
    channel.deadline = 0
    with pytest.raises(Gone, match="time limit"):
        channel.receive()


def test_a_value_that_is_too_large_is_refused_and_the_channel_lives(pair):
    with pytest.raises(ValueError, match="too large"):
        pair.call(1, "x" * (33 * 2**20))
    assert pair.call(1, 5) == 5


def test_an_answer_that_is_no_value_ends_the_conversation():
    """It must not look like an error of the student's function, which a check may expect."""
    read, write = os.pipe()
    answer = b'{"value": {"array": {"dtype": "float32", "shape": [3], "data": ""}}}'
    os.write(write, len(answer).to_bytes(8, "big") + answer)
    with pytest.raises(Gone, match="no value"):
        Peer(Channel(read, os.pipe()[1])).call(0)
