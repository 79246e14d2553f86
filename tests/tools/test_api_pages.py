"""The API pages list what lessons use, however they import it."""

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools.api_pages import api_pages, lessons_by_name, library, public_names, uses
from tools.notebooks import ROOT

MODULES = {
    "course": [],
    "course.claims": ["record"],
    "course.core": [],
    "course.core.sampling": ["sample", "Step"],
    "course.noise_editing": [],
    "course.noise_editing.sdedit": ["sdedit"],
}


@pytest.mark.parametrize(
    "code",
    [
        "from course.core.sampling import sample as draw",
        "from course.core import sample",
        "from course.core import sampling\nsampling.sample()",
        "import course.core.sampling as s\nfor x in s.sample(): pass",
        "%matplotlib inline\nfrom course.core.sampling import sample",
    ],
)
def test_a_use_is_found(code):
    assert set(uses(code, MODULES)) == {("course.core.sampling", "sample")}


def test_what_is_not_used_is_not_found():
    assert set(uses("import torch as s\ns.sample()\nfrom elsewhere import sdedit", MODULES)) == set()


def test_public_names_are_those_defined_here():
    source = "import a\nfrom b import c\nLIMIT = 1\n_hidden = 2\nx: int = 3\ndef f(): ...\nclass _K: ...\n"
    assert public_names(source) == ["LIMIT", "x", "f"]


def test_a_page_names_the_lessons_below_their_function():
    notebook = new_notebook(cells=[new_code_cell("from course.noise_editing.sdedit import sdedit")])
    users = lessons_by_name([("[First](a.md)", notebook), ("[Second](b.md)", notebook)], MODULES)
    pages = api_pages(MODULES, users)
    assert set(pages) == {"core", "noise_editing", "claims"}
    below = pages["noise_editing"].split("::: course.noise_editing.sdedit.sdedit")[1]
    assert "Used in: [First](a.md), [Second](b.md)." in below
    assert "Used in" not in pages["core"] and "::: course.claims.record" in pages["claims"]


def test_the_library_is_read_from_its_files():
    modules = library(ROOT)
    assert "ddim_step" in modules["course.core.sampling"]
    assert not any(name.endswith("__init__") for name in modules)
