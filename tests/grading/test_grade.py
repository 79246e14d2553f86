"""Batches: what is found, what is refused, what is kept, and what the files say."""

import csv
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
from authoring import APPLY, SQUARE, answer, assignment, cell, check, given, notebook, submission, write

import course
from course.grading import grade as module
from course.grading.__main__ import main
from course.grading.feedback import feedback, render
from course.grading.grade import grade
from course.grading.limits import Limits
from course.grading.notebooks import read_submission
from course.grading.sandbox import Isolation, find_isolation
from course.grading.submissions import find, read

OFF = Isolation(reason="a test")
CHECKS = [{"id": "square_check", "points": 2.0, "of": 2.0, "passed": True, "message": ""}]
CHECKS += [
    {"id": "apply_check", "points": 0.0, "of": 3.0, "passed": False, "message": "<b>apply</b> f twice"}
]


@pytest.fixture
def folder(tmp_path) -> Path:
    write(tmp_path / "a" / "a.ipynb", assignment())
    write(tmp_path / "s" / "ada.ipynb", submission())
    write(tmp_path / "s" / "bob.ipynb", submission(before="1"))
    return tmp_path


@pytest.fixture
def examined(monkeypatch) -> list[bytes]:
    """The submissions that an examiner was started for; it answers the same for all."""
    seen: list[bytes] = []

    def answers(job, data):
        seen.append(data)
        if b"boom" in data:
            raise RuntimeError("the disk is full")
        return {"checks": CHECKS, "notes": [], "cells": []}

    monkeypatch.setattr(module, "_examined", answers)
    return seen


def run(folder, **more):
    return grade(folder / "a", folder / "s", folder / "g", isolation=OFF, **more)["students"]


def test_what_was_graded_is_kept_until_something_changes(folder, examined):
    first = run(folder)
    assert len(examined) == 2 and run(folder) == first and len(examined) == 2
    write(folder / "s" / "bob.ipynb", submission(before="2"))
    run(folder)
    assert len(examined) == 3, "only the changed one is graded again"
    run(folder, again=True)
    assert len(examined) == 5
    run(folder, limits=Limits(memory_mb=100))
    assert len(examined) == 7, "other limits, other results"
    made = assignment()
    made["cells"][3]["source"] += "\n"
    write(folder / "a" / "a.ipynb", made)
    run(folder)
    assert len(examined) == 9, "another assignment, other results"


def test_a_broken_record_is_made_anew(folder, examined):
    run(folder)
    for path in (folder / "g" / "records").iterdir():
        path.write_text('{"name": "ad')
    assert [student["points"] for student in run(folder)] == [2, 2] and len(examined) == 4


def test_a_fault_of_ours_costs_nobody_else_and_is_tried_again(folder, examined):
    write(folder / "s" / "bob.ipynb", submission(before="'boom'"))
    ada, bob = run(folder)
    assert ada["points"] == 2 and bob["failed"] == "RuntimeError: the disk is full" and bob["points"] == 0
    run(folder)
    assert len(examined) == 3, "the one that failed is tried again, the other is kept"


def test_an_examiner_that_dies_is_reported(folder, monkeypatch):
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    assert [student["failed"] for student in run(folder)] == ["the examiner ended with 1: no word"] * 2


def test_names_of_all_kinds_and_things_that_are_no_notebooks(folder, examined):
    sent = folder / "s"
    for name in ("=1+1", "a b ü 漢", "new\nline", "<script>"):
        write(sent / f"{name}.ipynb", submission())
    (sent / os.fsdecode(b"\xff.ipynb")).write_text(json.dumps(submission()))
    os.mkfifo(sent / "pipe.ipynb")
    (sent / "notes.txt").write_text("hello")
    (sent / ".hidden.ipynb").write_text("{}")
    (sent / "empty").mkdir()
    (sent / "huge.ipynb").write_bytes(b" " * (2**20 + 1))
    (sent / "linked").symlink_to(folder / "a")
    write(sent / "carl" / "hw" / "a.ipynb", submission())
    write(sent / "carl" / "hw" / "draft.ipynb", submission())
    write(sent / "dora" / "x.ipynb", submission())
    write(sent / "dora" / "y.ipynb", submission())
    (sent / "erna").mkdir()
    (sent / "erna" / "a.ipynb").symlink_to(folder / "a" / "a.ipynb")
    write(sent / "ada" / "a.ipynb", submission())
    students = {student["name"]: student for student in run(folder, limits=Limits(notebook_mb=1))}
    refused = {name: student["refused"] for name, student in students.items() if "refused" in student}
    assert refused == {
        "pipe": "it is not a plain file",
        "notes.txt": "it is not a notebook",
        "empty": "there is no notebook in it",
        "huge": "it has 1.0 MB; at most 1 MB are read: clear its outputs",
        "linked": "it is a link; links are not followed",
        "dora": "which of the 2 notebooks in it counts is not clear",
        "erna": "it is a link; links are not followed",
    }
    graded = {"=1+1", "a b ü 漢", "new\nline", "<script>", "\\udcff", "carl", "bob", "ada", "ada.ipynb"}
    assert set(students) - set(refused) == graded
    with (folder / "g" / "results.csv").open(encoding="utf8", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(students) - {"=1+1"} | {"'=1+1"}, (
        "a spreadsheet must not take a name for a formula"
    )
    assert (
        rows["bob"]["points"] == "2.0"
        and rows["bob"]["apply_check"] == "0.0"
        and rows["bob"]["isolated"] == "NO"
    )
    pages = feedback(folder / "g")
    assert len({page.name for page in pages}) == len(students) and all(page.is_file() for page in pages)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a notebook"),
        (b"\xff\xfe", "not a notebook"),
        (b'{"cells": [', "not a notebook"),
        (b"[1, 2]", "not a notebook"),
        (b'{"cells": 7}', "not a notebook"),
        (b'{"cells": [{"cell_type": 3, "source": ""}]}', "not a notebook"),
        (b'{"cells": [{"cell_type": "code", "source": [1]}]}', "not a notebook"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"cells": []}', "no code cell"),
        (json.dumps(notebook(*[cell("1")] * 2001)).encode(), "at most 2000"),
    ],
)
def test_what_is_no_notebook_is_refused_in_words(data, reason):
    with pytest.raises(ValueError, match=reason):
        read_submission(data)


def test_odd_metadata_and_old_notebooks_are_read():
    odd = notebook({**cell("1"), "metadata": 3}, {**cell("2"), "metadata": {"nbgrader": {"grade_id": 7}}})
    assert [c.source for c in read_submission(json.dumps(odd).encode())][1:] == ["1", "2"]
    sheet = {"cells": [{"cell_type": "code", "input": ["x = 1\n", "y"], "metadata": {}}]}
    assert read_submission(json.dumps({"worksheets": [sheet]}).encode())[0].source == "x = 1\ny"


def test_a_link_that_appears_after_the_search_is_refused(tmp_path):
    path = write(tmp_path / "s" / "eve.ipynb", submission())
    [eve] = find(tmp_path / "s", "a.ipynb")
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="link"):
        read(eve.path, 1)


def test_folders_that_students_code_could_read_are_refused(folder, bubblewrap):
    inside = Path(course.__file__).parent / "grading"
    with pytest.raises(ValueError, match="which students' code may read"):
        grade(folder / "a", folder / "s", inside / "nowhere", isolation=find_isolation(bubblewrap))
    assert not (inside / "nowhere").exists()


def test_isolation_that_cannot_be_had_says_why(tmp_path):
    assert find_isolation("no-such-program").reason == "bubblewrap (no-such-program) is not installed"
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no permission to make namespaces >&2\nexit 1\n")
    broken.chmod(0o755)
    assert (
        find_isolation(str(broken)).reason
        == "bubblewrap does not work here: no permission to make namespaces"
    )


class Tags(HTMLParser):
    """The tags of a page, and the addresses in them."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]


def test_feedback_runs_nothing_and_asks_for_nothing(tmp_path):
    attack = "<script src='https://example.org/x.js'></script>\ud800"
    output = {
        "text": attack,
        "error": "",
        "shown": [{"png": "iVBOR"}, {"png": '"><script>'}, {"text": attack}],
    }
    record = {
        "name": attack,
        "points": 2,
        "of": 5,
        "by_hand": 4,
        "checks": CHECKS,
        "notes": [attack],
        "cells": [{"code": attack, "id": "", "role": "", "output": output}, {"text": attack, "id": "essay"}],
    }
    page = render(record, "a")
    module.write_whole(tmp_path / "page.html", page)
    found = Tags()
    found.feed((tmp_path / "page.html").read_text("utf8"))
    assert "script" not in found.tags and page.count("&lt;script") == 7
    assert [found.tags.count(tag) for tag in ("img", "a", "link", "iframe")] == [1, 0, 0, 0]
    assert found.addresses == ["data:image/png;base64,iVBOR"]
    assert "default-src 'none'" in page
    assert "2 of 5" in page and "up to 4" in page and "&lt;b&gt;apply&lt;/b&gt; f twice" in page


def test_the_commands(folder, bubblewrap, capsys):
    """Release, grade and feedback as a teacher types them, for one submission."""
    (folder / "s" / "bob.ipynb").unlink()
    words = [folder / "a", folder / "s", folder / "g"]
    assert main(["release", str(folder / "a"), str(folder / "out")]) == 0
    assert main(["grade", *map(str, words), "--cell-seconds", "30", "--no-isolation"]) == 0
    said = capsys.readouterr()
    assert "ada: 5 of 5" in said.out and "*** ISOLATION WAS OFF" in said.err
    assert main(["feedback", str(folder / "g")]) == 0
    assert main(["grade", str(folder / "nowhere"), *map(str, words[1:])]) == 2
    assert main(["grade", *map(str, words), "--memory-mb", "-1"]) == 2
    assert main(["feedback", str(folder / "nowhere")]) == 2


def test_written_answers_are_left_to_a_person(folder, examined):
    essay = {**cell("Because ...", "essay", solution=True, grade=True, points=4), "cell_type": "markdown"}
    write(folder / "a" / "a.ipynb", notebook(*assignment()["cells"][1:], essay))
    assert [student["by_hand"] for student in run(folder)] == [4, 4]


def test_cells_are_matched_by_their_id():
    from course.grading.examiner import merge
    from course.grading.notebooks import cells_of

    ours = cells_of(assignment())
    theirs = notebook(
        cell("print(1)"),
        check("square_check", "assert True", 2),
        answer("apply", APPLY),
        {**given(), "source": "import os"},
        given(),
        answer("square", SQUARE),
        answer("square", "square = None"),
    )
    cells, notes = merge(ours, cells_of(theirs))
    assert [c.source for c in cells] == ["print(1)", APPLY, given()["source"], SQUARE, "square = None"]
    assert notes == [
        "cell square_check was changed; the assignment's own is used",
        "cell given was changed; the assignment's own is used",
        "cell given is there more than once",
        "cell square is there more than once",
        "cell apply_check is missing; it is put back",
    ]
