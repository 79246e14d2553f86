"""The converter: executed notebook in, Markdown page and picture files out."""

import base64
import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.notebook_markdown import Page, convert, fenced, output_markdown, portable

PNG = base64.b64encode(b"\x89PNG of sorts").decode()


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path, "lesson")


def shown(data, page, **metadata):
    return output_markdown(new_output("display_data", data=data, metadata=metadata), page)


def test_a_lesson_becomes_a_page(page):
    stdout = new_output("stream", name="stdout", text="\x1b[31m3 steps\x1b[0m\n")
    cells = [
        new_markdown_cell("# How much noise?\n\nA question."),
        new_code_cell("1 + 2", outputs=[stdout]),
        new_code_cell("secret", metadata={"tags": ["remove-cell"]}),
        new_code_cell("plumbing", metadata={"tags": ["remove-input"]}),
        new_code_cell("long\n\ncode", metadata={"tags": ["hide-input"]}),
    ]
    assert convert(new_notebook(cells=cells), page, "HEADER") == "How much noise?"
    text = (page.folder / "lesson.md").read_text("utf8")
    assert text.startswith("# How much noise?\n\nHEADER\n\nA question.\n\n``` python\n1 + 2\n```\n\n")
    assert "``` { .text .nb-output }\n3 steps\n```" in text
    assert "secret" not in text and "plumbing" not in text
    assert '??? example "Code"\n\n    ``` python\n    long\n\n    code\n    ```\n' in text


def test_a_notebook_without_a_title_is_refused(page):
    with pytest.raises(ValueError, match="starts with its title"):
        convert(new_notebook(cells=[new_markdown_cell("No title")]), page)


def test_a_picture_becomes_a_file_with_its_alt_text_and_width(page):
    text = shown(
        {"image/png": PNG, "text/plain": "x"}, page, **{"image/png": {"alt": 'a "red" cat', "width": 300}}
    )
    source = re.search(r'src="([^"]+)"', text)[1]
    assert (page.folder / source).read_bytes() == b"\x89PNG of sorts"
    assert 'alt="a &quot;red&quot; cat" width="300"' in text and PNG not in text


def test_a_picture_without_alt_text_is_refused(page):
    with pytest.raises(ValueError, match="no alt text"):
        shown({"image/png": PNG}, page)


def test_pictures_within_html_become_files_and_the_rest_stays(page):
    slider = f'<input oninput="move(this)">\n\n<img src="data:image/png;base64,{PNG}" alt="a">' * 2
    text = shown({"text/html": slider, "image/png": PNG}, page, alt="sheet")
    assert (
        "base64" not in text and text.count('<img src="lesson_files/') == 2 and 'oninput="move(this)"' in text
    )
    assert "\n\n" not in text.strip(), "a blank line ends an HTML block"
    assert len(list((page.folder / "lesson_files").iterdir())) == 1, "the same picture is written once"


def test_a_widget_becomes_a_note_and_its_still_picture(page):
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "IntSlider(value=3)"}
    text = shown(widget, page)
    assert text.startswith('!!! tip "Live in JupyterLab"') and "IntSlider" not in text and "<img" not in text
    with_still = shown(widget | {"image/png": PNG}, page, alt="a still")
    assert with_still.startswith(text) and 'alt="a still"' in with_still


def test_stderr_is_dropped_and_an_error_shows_its_last_line(page):
    assert output_markdown(new_output("stream", name="stderr", text="warning"), page) == ""
    error = new_output("error", ename="ValueError", evalue="strength lies in (0, 1]", traceback=["..."])
    assert "ValueError: strength lies in (0, 1]" in output_markdown(error, page)


def test_code_that_holds_fences_is_fenced_by_longer_ones():
    assert fenced("a ``` b", "text").startswith("```` text\n")
    assert fenced("plain", "text").startswith("``` text\n")


@pytest.mark.parametrize(
    ("jupyter", "site"),
    [
        ("Two things:\n- one\n- two", "Two things:\n\n- one\n- two"),
        ("- one\n  - deep\n- two", "- one\n    - deep\n- two"),
        ("1. one\n   - deep", "1. one\n    - deep"),
        ("So\n$$x = 1$$\nholds", "So\n\n$$x = 1$$\n\nholds"),
        ("So\n$$\nx\n- y\n$$\nholds", "So\n\n$$\nx\n- y\n$$\n\nholds"),
        ("```\nx\n- y\n$$\n```", "```\nx\n- y\n$$\n```"),
        ("[next](2_next.ipynb#knob)", "[next](2_next.md#knob)"),
        ("[far](https://example.org/a.ipynb)", "[far](https://example.org/a.ipynb)"),
        ("[teach](../../docs/teaching.md)", "[teach](../../teaching.md)"),
    ],
)
def test_markdown_is_made_portable(jupyter, site):
    assert portable(jupyter).strip() == site
