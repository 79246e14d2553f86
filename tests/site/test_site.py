"""A small course is run, built and checked as the real one is; then each check is shown to catch flaws."""

import json
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import notebooks
from tools.build_site import assemble, claims_table, header, read_claims, render
from tools.check_site import browser_problems, file_problems
from tools.notebooks import ROOT

CLAIM = {
    "id": "sdedit-tradeoff",
    "paper": "SDEdit",
    "statement": "More noise, more realism | less faithfulness",
    "where": "Fig. 3",
    "metric": "distance",
    "rule": "rises with strength",
    "verdict": "does not hold here",
    "reason": "the world is small",
    "measured": {"strength 0.3": {"mean": 0.1234, "std": 0.01, "n": 5}},
}
CELLS = [
    new_markdown_cell(
        "# How much noise?\n\nInline $x_t$ and displayed:\n$$x_t = \\sqrt{\\bar\\alpha_t}\\,x_0$$"
    ),
    new_code_cell("import numpy as np\nfrom course.figures import FrameSlider, grid, source"),
    new_code_cell(
        "frames = [np.full((8, 8, 3), v, np.uint8) for v in (0, 120, 250)]\nassert len(frames) == 3"
    ),
    new_code_cell("FrameSlider(frames, ['a', 'b', 'c'], alt='a square that brightens')"),
    new_code_cell("grid(frames, alt='three squares')"),
    new_code_cell("source(grid)"),
    new_code_cell("import ipywidgets\nipywidgets.IntSlider(3)"),
]


@pytest.fixture(scope="module")
def course_copy(tmp_path_factory, outside):
    """The course with one small lesson in each chapter, executed by nbval, and one claim measured."""
    root = tmp_path_factory.mktemp("course")
    for name in ("docs", "tools", "course"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "weights", "art")
        )
    for name in ("mkdocs.yml", "conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    chapters = sorted(path.name for path in (root / "docs" / "lessons").iterdir())
    for chapter in chapters:
        path = root / "notebooks" / chapter / "1_trial.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(new_notebook(cells=CELLS), path)
    claim = CLAIM | {"lesson": f"notebooks/{chapters[0]}/1_trial.ipynb"}
    (root / "build" / "claims").mkdir(parents=True)
    (root / "build" / "claims" / "sdedit-tradeoff.json").write_text(json.dumps(claim))
    options = ["--nbval-lax", "--nbval-current-env", "--nb-dump", "build/executed", "-p", "no:cacheprovider"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, "notebooks"],
        cwd=root,
        env=outside | {"PYTHONPATH": str(root)},
        check=True,
    )
    return root


@pytest.fixture(scope="module")
def site(course_copy):
    """The small course's site, built strictly."""
    assert render(assemble(course_copy, {"sdedit-tradeoff"})) == 0
    return course_copy / "build" / "site"


@pytest.fixture
def spoilt(site, tmp_path):
    """A copy of the site to spoil."""
    return shutil.copytree(site, tmp_path / "site")


def test_the_files_of_the_site_are_sound(site):
    assert file_problems(site) == []


def test_the_browser_finds_nothing_wrong(site, chromium):
    assert browser_problems(site, chromium) == []


def test_a_lesson_shows_its_outputs_and_how_to_open_it(site):
    page = (site / "lessons" / "0_start" / "1_trial.html").read_text("utf8")
    assert "Run locally" in page and "colab" not in page, "the course as it is names no repository"
    assert 'alt="three squares"' in page and "frame-slider" in page and "Live in JupyterLab" in page
    assert "base64" not in page and "def</span>" in page, "pictures are files, the library's source is shown"


def test_a_published_course_opens_in_colab():
    button = header("notebooks/1.ipynb", 3, "https://github.com/someone/course/")
    assert "colab.research.google.com/github/someone/course/blob/main/notebooks/1.ipynb" in button


def test_the_library_lists_the_lessons_that_use_a_function(site):
    page = (site / "api" / "figures.html").read_text("utf8")
    below = page.split('id="course.figures.pictures.grid"')[1].split('id="course.figures.')[0]
    assert "Used in:" in below and "0_start/1_trial.html" in below


def test_the_claims_page_says_plainly_what_does_not_hold(site):
    page = (site / "claims.html").read_text("utf8")
    assert "<strong>does not hold here</strong>: the world is small" in page
    assert "strength 0.3: 0.123 ± 0.01 (n = 5)" in page and "realism | less faithfulness" in page


def test_search_knows_the_lessons(site):
    index = json.loads((site / "search" / "search_index.json").read_text("utf8"))
    assert any("How much noise" in document["title"] for document in index["docs"])


@pytest.mark.parametrize(
    ("page", "addition", "complaint"),
    [
        (
            "index.html",
            '<script src="https://cdn.example/x.js"></script>',
            "fetches https://cdn.example/x.js",
        ),
        ("index.html", '<link rel="stylesheet" href="//cdn.example/x.css">', "fetches //cdn.example"),
        ("index.html", '<img alt="x" srcset="https://cdn.example/x.png 2x">', "fetches https://cdn.example"),
        ("assets/course.css", "@import 'https://fonts.example/x';", "fetches @import"),
        ("assets/course.css", "a { background: url(https://fonts.example/x) }", "fetches url("),
        ("index.html", '<img src="assets/math.js">', "without alt text"),
        ("index.html", '<a href="nowhere.html">x</a>', "leads nowhere: nowhere.html"),
        ("index.html", '<a href="run.html#nowhere">x</a>', "leads nowhere: run.html#nowhere"),
        ("run.html", '<img alt="x" src="nowhere.png">', "leads nowhere: nowhere.png"),
    ],
)
def test_a_flaw_in_the_files_is_found(spoilt, page, addition, complaint):
    with (spoilt / page).open("a", encoding="utf8") as file:
        file.write(addition)
    found = file_problems(spoilt)
    assert len(found) == 1 or page.endswith("html")
    assert any(complaint in problem for problem in found)


def test_a_flaw_that_only_a_browser_sees_is_found(spoilt, chromium):
    math = spoilt / "assets" / "math.js"
    math.write_text("fetch('https://tracker.example/x'); throw new Error('broken')")
    slider = spoilt / "lessons" / "0_start" / "1_trial.html"
    slider.write_text(slider.read_text("utf8").replace("oninput=", "data-was="), "utf8")
    (spoilt / "search" / "search_index.js").write_text('var __index = {"config": {}, "docs": []}')
    (spoilt / "search" / "search_index.json").write_text(
        '{"config": {"lang": ["en"], "separator": " "}, "docs": []}'
    )
    found = "\n".join(browser_problems(spoilt, chromium, patience=10_000))
    assert "search for 'diffusion'" in found
    for complaint in ("asked for https://tracker.example/x", "broken", "are not set", "its picture stays"):
        assert complaint in found


def test_a_changed_lesson_stops_the_build(course_copy):
    path = course_copy / "notebooks" / "0_start" / "1_trial.ipynb"
    before = path.read_text("utf8")
    path.write_text(before.replace("three squares", "four squares"), "utf8")
    with pytest.raises(notebooks.StaleNotebook, match="other sources"):
        assemble(course_copy, {"sdedit-tradeoff"})
    path.write_text(before, "utf8")


def test_a_claim_that_nobody_measured_stops_the_build(course_copy):
    with pytest.raises(ValueError, match=r"not measured \['another'\]"):
        read_claims(course_copy / "build" / "claims", {"sdedit-tradeoff", "another"})


def test_a_claim_that_is_not_listed_stops_the_build(course_copy):
    with pytest.raises(ValueError, match=r"not listed \['sdedit-tradeoff'\]"):
        read_claims(course_copy / "build" / "claims", set())


def test_a_warning_stops_the_build(course_copy, site):
    page = course_copy / "build" / "docs" / "run.md"
    page.write_text(page.read_text("utf8") + "\n[dead](nowhere.md)\n", "utf8")
    config = course_copy / "build" / "mkdocs.yml"
    elsewhere = config.with_name("other.yml")
    elsewhere.write_text(config.read_text("utf8").replace("site_dir: site", "site_dir: other"), "utf8")
    assert render(elsewhere) != 0


def test_claims_are_listed_by_lesson():
    table = claims_table([CLAIM | {"lesson": "b/2", "id": "x"}, CLAIM | {"lesson": "a/1", "id": "y"}])
    assert table.index("lessons/a/1.md") < table.index("lessons/b/2.md")
