"""Submissions that attack the machine, the secrets, the grade. Each harms nothing and is reported by name."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from authoring import APPLY, SQUARE, answer, assignment, given, notebook, submission, write

import course
from course.grading.grade import grade
from course.grading.limits import Limits
from course.grading.sandbox import find_isolation

SHARED = {"memory_mb": 512, "processes": 20, "disk_mb": 16, "file_mb": 8, "notebook_mb": 1}
MARK = 19_937  # a limit that no other test sets, so that our processes can be told by their command line
SECRET = "known-to-the-teacher-only"

LOOP = "def square(x):\n    while True:\n        pass"
STUBBORN = """\
import time

def square(x):
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass"""
HOG = """\
def square(x):
    kept = []
    while True:
        kept.append(bytearray(10**7))"""
SPAWN = """\
import os, time
started = 0
for _ in range(200):
    if os.fork() == 0:
        time.sleep(120)
        os._exit(0)
    started += 1"""
TRY = """\
def attempt(name, action):
    try:
        print(name, "DONE", action())
    except BaseException as error:
        print(name, type(error).__name__)
"""
FORGE = """\
import builtins, json, os, sys
print(json.dumps({"checks": [{"id": "square_check", "points": 2, "passed": True}], "points": 5}))
builtins.AssertionError = type("Fine", (Exception,), {})
import IPython.core.interactiveshell as shell
shell.InteractiveShell.run_cell = lambda *args, **kwargs: None
frame = json.dumps({"value": {"int": 9}}).encode()
for number in range(3, 30):
    try:
        os.write(number, len(frame).to_bytes(8, "big") + frame)
    except OSError:
        pass"""
YES = """\
class Yes(int):
    def __eq__(self, other):
        return True
    __hash__ = int.__hash__

def square(x):
    return Yes()"""


def reach(folder: Path, port: int, name: str) -> str:
    """Try the solution, another's work, the results, the network, the environment, and to write elsewhere."""
    reads = {
        "solution": folder / "assignment" / "a.ipynb",
        "other": folder / "submitted" / "honest.ipynb",
        "own": folder / "submitted" / "reach.ipynb",
        "results": folder / "graded" / "records",
        "tests": Path(__file__),
    }
    writes = {
        "temporary": folder / "written",
        "package": Path(course.__file__).parent / "written.py",
        "home": Path.home() / "written",
        "system": Path("/usr/written"),
        "root": Path("/written"),
    }
    lines = [TRY, "import os, pathlib, socket"]
    lines += [
        f"attempt('read {k}', lambda: os.listdir({str(p)!r}) or 1)" for k, p in reads.items() if not p.suffix
    ]
    lines += [
        f"attempt('read {k}', lambda: len(open({str(p)!r}).read()))" for k, p in reads.items() if p.suffix
    ]
    lines += [f"attempt('write {k}', lambda: open({str(p)!r}, 'w').write('x'))" for k, p in writes.items()]
    lines += [
        f"attempt('network', lambda: socket.create_connection(('127.0.0.1', {port}), 5))",
        f"attempt('socket', lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + {name!r}))",
        "attempt('root', lambda: os.setuid(0))",
        "attempt('big file', lambda: open('big', 'wb').write(bytes(10 * 2**20)))",
        "attempt('full disk', lambda: [open(f'part{i}', 'wb').write(bytes(4 * 2**20)) for i in range(9)])",
        "print('uid', os.getuid(), 'cwd', os.getcwd(), 'environment', dict(os.environ))",
        "print('processes', [p for p in os.listdir('/proc') if p.isdigit()])",
    ]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def listeners() -> Iterator[tuple[int, str, list[Any]]]:
    """A port and an abstract socket name on which this process listens, and who has called."""
    calls: list[Any] = []
    name = f"course-grading-{os.getpid()}"
    open_ports = [socket.socket(), socket.socket(socket.AF_UNIX)]
    open_ports[0].bind(("127.0.0.1", 0))
    open_ports[1].bind("\0" + name)

    def listen(port: socket.socket) -> None:
        while True:
            try:
                calls.append(port.accept())
            except OSError:
                return

    for port in open_ports:
        port.listen()
        threading.Thread(target=listen, args=(port,), daemon=True).start()
    yield open_ports[0].getsockname()[1], name, calls
    for port in open_ports:
        port.close()


@pytest.fixture(scope="module")
def graded(bubblewrap, listeners, tmp_path_factory) -> dict[str, Any]:
    """The records of all attacks, graded in one batch, two at a time."""
    folder = tmp_path_factory.mktemp("class")
    attacks = {
        "honest": submission(),
        "empty": submission(
            "def square(x):\n    raise NotImplementedError()",
            "def apply(f, x):\n    raise NotImplementedError()",
        ),
        "wrong": submission("def square(x):\n    return 3 * x"),
        "deleted": notebook(answer("square", SQUARE)),
        "no_given": notebook(answer("square", SQUARE), answer("apply", APPLY)),
        "doubled": notebook(answer("square", "def square(x):\n    return 0"), *submission()["cells"][1:]),
        "reordered": notebook(answer("apply", APPLY), answer("square", SQUARE), given()),
        "given_changed": notebook({**given(), "source": "twice = None"}, *submission()["cells"][2:]),
        "hog": submission(HOG),
        "spawn": submission(before=SPAWN),
        "reach": submission(before=reach(folder, listeners[0], listeners[1])),
        "forge": submission("square = None", "apply = None", before=FORGE),
        "yes": submission(YES),
        "exit": submission(before="import sys\nsys.exit(0)", after="import os\nos._exit(0)"),
        "exit_in_answer": submission("def square(x):\n    import os\n    os._exit(0)"),
        "killer": submission(before="import os\nos.kill(os.getppid(), 9)\nos.kill(os.getpid(), 9)"),
        "loud": submission(before="for i in range(300):\n    print('x' * 10**5)\n    display(i)"),
    }
    write(folder / "assignment" / "a.ipynb", assignment())
    for name, content in attacks.items():
        write(folder / "submitted" / f"{name}.ipynb", content)
    (folder / "submitted" / "link.ipynb").symlink_to(folder / "assignment" / "a.ipynb")
    isolation = find_isolation(bubblewrap)
    assert isolation.on, isolation.reason
    limits = Limits(cell_seconds=60, total_seconds=300, output_chars=MARK, **SHARED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEACHERS_TOKEN", SECRET)
        grade(
            folder / "assignment",
            folder / "submitted",
            folder / "graded",
            limits=limits,
            isolation=isolation,
            jobs=2,
        )
    records = [json.loads(path.read_text("utf8")) for path in (folder / "graded" / "records").iterdir()]
    return {"folder": folder, **{record["name"]: record for record in records}}


def points(record: dict[str, Any]) -> dict[str, float]:
    return {check["id"]: check["points"] for check in record["checks"]}


def message(record: dict[str, Any], check: str) -> str:
    return next(c["message"] for c in record["checks"] if c["id"] == check)


def printed(record: dict[str, Any]) -> str:
    return record["cells"][0]["output"]["text"]


FULL = {"square_check": 2, "apply_check": 3}
NONE = {"square_check": 0, "apply_check": 0}
ONLY_APPLY = {"square_check": 0, "apply_check": 3}


def test_the_honest_get_everything_and_the_empty_nothing(graded):
    assert points(graded["honest"]) == FULL and graded["honest"]["isolated"] is True
    assert points(graded["empty"]) == NONE
    assert {check["message"] for check in graded["empty"]["checks"]} == {"Not answered yet."}


def test_a_wrong_answer_is_told_what_the_check_says(graded):
    assert points(graded["wrong"]) == ONLY_APPLY
    assert message(graded["wrong"], "square_check") == "square must work for other numbers too"


def test_deleted_cells_cost_their_own_points(graded):
    assert points(graded["deleted"]) == {"square_check": 2, "apply_check": 0}
    assert "There is no `apply`" in message(graded["deleted"], "apply_check")
    assert "cell apply is missing" in graded["deleted"]["notes"]
    assert points(graded["no_given"]) == FULL


def test_doubled_reordered_and_changed_cells_are_borne(graded):
    assert (
        points(graded["doubled"]) == FULL
        and "cell square is there more than once" in graded["doubled"]["notes"]
    )
    assert points(graded["reordered"]) == FULL
    assert points(graded["given_changed"]) == FULL
    assert "cell given was changed; the assignment's own is used" in graded["given_changed"]["notes"]


def test_a_memory_hog_is_stopped(graded):
    assert points(graded["hog"]) == ONLY_APPLY
    assert "Memory" in message(graded["hog"], "square_check") or "MB of memory" in message(
        graded["hog"], "square_check"
    )


def test_spawned_processes_are_bounded_and_ended(graded):
    stopped = printed(graded["spawn"]) + str(graded["spawn"]["notes"])
    assert "BlockingIOError" in stopped or "more than 20 processes" in stopped
    assert points(graded["spawn"]) == FULL
    left = [p for p in psutil.process_iter(["cmdline"]) if str(MARK) in " ".join(p.info["cmdline"] or [])]
    assert left == []


def test_nothing_but_its_own_box_is_in_reach(graded, listeners):
    text = printed(graded["reach"])
    done = [line for line in text.splitlines() if " DONE " in line]
    assert done == [] and text.count("read ") == 5 and text.count("write ") == 5, text
    assert "big file OSError" in text and "full disk OSError" in text
    assert listeners[2] == [], "a listener of this process was reached from inside"
    assert SECRET not in text and "uid 0 " not in text
    assert len(text.split("processes ")[1].split(",")) < 10, "it saw processes that are not its own"
    outside = [graded["folder"] / "written", Path.home() / "written", Path("/written"), Path("/usr/written")]
    assert not any(path.exists() for path in outside)
    assert points(graded["reach"]) == FULL


def test_a_grade_cannot_be_forged(graded):
    assert points(graded["forge"]) == NONE
    assert points(graded["yes"]) == ONLY_APPLY


def test_ending_the_process_costs_no_other_answer(graded):
    assert points(graded["exit"]) == FULL
    assert any("is left out" in note for note in graded["exit"]["notes"])
    assert points(graded["exit_in_answer"]) == ONLY_APPLY
    assert "process ended" in message(graded["exit_in_answer"], "square_check")
    assert points(graded["killer"]) == FULL


def test_huge_output_is_cut(graded):
    record = graded["loud"]
    output = record["cells"][0]["output"]
    assert points(record) == FULL
    assert (
        len(output["text"]) < MARK + 100
        and "more characters]" in output["text"]
        and len(output["shown"]) == 50
    )


def test_a_link_is_refused(graded):
    assert graded["link"]["refused"] == "it is a link; links are not followed"
    assert points(graded["link"]) == NONE


@pytest.fixture(params=["isolated", "not isolated"])
def isolation(request: pytest.FixtureRequest):
    """Limits hold with bubblewrap and without."""
    return find_isolation(request.getfixturevalue("bubblewrap") if request.param == "isolated" else None)


def test_endless_loops_are_stopped(isolation, tmp_path):
    """One can be interrupted, one fights it and is killed: the other answers count all the same."""
    write(tmp_path / "a" / "a.ipynb", assignment())
    write(tmp_path / "s" / "loop.ipynb", submission(LOOP))
    write(tmp_path / "s" / "stubborn.ipynb", submission(STUBBORN))
    limits = Limits(cell_seconds=6, total_seconds=240, **SHARED)
    summary = grade(
        tmp_path / "a", tmp_path / "s", tmp_path / "g", limits=limits, isolation=isolation, jobs=2
    )
    loop, stubborn = summary["students"]
    assert points(loop) == points(stubborn) == ONLY_APPLY
    assert "took longer than 6 s" in message(loop, "square_check")
    assert "did not stop at its time limit" in message(stubborn, "square_check")


def test_the_whole_time_is_limited(bubblewrap, tmp_path):
    write(tmp_path / "a" / "a.ipynb", assignment())
    write(tmp_path / "s" / "sleeper.ipynb", submission(before="import time\ntime.sleep(300)"))
    limits = Limits(cell_seconds=300, total_seconds=5, **SHARED)
    isolation = find_isolation(bubblewrap)
    [sleeper] = grade(tmp_path / "a", tmp_path / "s", tmp_path / "g", limits=limits, isolation=isolation)[
        "students"
    ]
    assert points(sleeper) == NONE and "used up its 5 s" in message(sleeper, "square_check")


def test_without_bubblewrap_limits_hold_and_the_report_is_loud(tmp_path):
    write(tmp_path / "a" / "a.ipynb", assignment())
    for name, content in {
        "honest": submission(),
        "hog": submission(HOG),
        "spawn": submission(before=SPAWN),
    }.items():
        write(tmp_path / "s" / f"{name}.ipynb", content)
    limits = Limits(output_chars=MARK + 1, **SHARED)
    results = tmp_path / "g"
    summary = grade(
        tmp_path / "a", tmp_path / "s", results, limits=limits, isolation=find_isolation(None), jobs=2
    )
    hog, honest, spawn = summary["students"]
    assert points(honest) == points(spawn) == FULL and points(hog) == ONLY_APPLY
    assert summary["isolation"]["on"] is False and "ISOLATION WAS OFF" in summary["isolation"]["warning"]
    assert all(",NO," in line for line in (results / "results.csv").read_text("utf8").splitlines()[1:])
    left = [p for p in psutil.process_iter(["cmdline"]) if str(MARK + 1) in " ".join(p.info["cmdline"] or [])]
    assert left == []
