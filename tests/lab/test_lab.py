"""The live controls in a real JupyterLab, in a real browser: what a reader does with mouse and keyboard."""

import base64
import io
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from tools.programs import BROWSER_ARGS

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "notebooks" / "1_noise_editing").glob("*sdedit*.ipynb"))
PATIENCE = 480  # seconds, for a slow machine that does other work too

CELLS = [
    """
import torch
from course.figures import FrameSlider
from course.widgets import StrokePainter, paint_and_edit, slider_view

def shade(light):
    if light > 0.8:
        raise ValueError("too light to see")
    return torch.full((1, 3, 64, 64), light)
""",
    'slider_view(shade, alt="A grey square", light=(-1.0, 1.0, 0.1, 0.7))',
    'FrameSlider([shade(-0.5), shade(0.5)], ["dark", "light"], alt="Two greys")',
    'paint_and_edit(StrokePainter(background="grass"), lambda image: image, alt="The same")',
    'StrokePainter(picture=shade(0.0), mode="mask", alt="What may change")',
]


@dataclass(frozen=True)
class Lab:
    """A running server and what its notebooks are called."""

    url: str
    token: str

    def get(self, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()


def settings(folder: Path) -> None:
    """No question about news at the start; every cell stays on the page when it is scrolled away."""
    for name, values in {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},
    }.items():
        path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on a folder with a small notebook of every control, and the lesson that has them."""
    home = tmp_path_factory.mktemp("lab")
    root = home / "root"
    root.mkdir()
    small = new_notebook(cells=[new_markdown_cell("# Controls"), *map(new_code_cell, map(str.strip, CELLS))])
    small.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(small, root / "controls.ipynb")
    for lesson in LESSONS:
        (root / lesson.name).write_bytes(lesson.read_bytes())
    settings(home / "settings")
    lab = Lab(f"http://127.0.0.1:{free_port()}/", secrets.token_hex(16))
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    environment = os.environ | {name: str(home / place) for name, place in places.items()}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment.pop("COURSE_BUILD", None)  # a lesson opened here records no claim
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": lab.url.rsplit(":")[-1].strip("/"),
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": root,
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "IdentityProvider.token": lab.token,
        "LabApp.news_url": None,
    }
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for(lab, server, home / "server.log")
        yield lab
    finally:
        stop(lab, server)


def wait_for(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and server.poll() is None:
        try:
            lab.get("api/status")
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


def stop(lab: Lab, server: subprocess.Popen[bytes]) -> None:
    """Stop the kernels, which outlive a killed server, then the server."""
    try:
        for kernel in json.loads(lab.get("api/kernels")):
            lab.get(f"api/kernels/{kernel['id']}", "DELETE")
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(BROWSER_ARGS))
        yield browser
        browser.close()
    expect.set_options(timeout=5_000)  # what it was, for the tests of other files


FINISHED = """() => {
    const shown = document.querySelector(".jp-NotebookPanel:not(.lm-mod-hidden)") || document;
    const prompts = [...shown.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
    const failed = document.querySelector("[data-mime-type='application/vnd.jupyter.error']");
    return failed || (prompts.length && prompts.every((each) => /\\d/.test(each.textContent)));
}"""


def run_all(browser: Browser, lab: Lab, notebook: str) -> Page:
    """The notebook, opened and run through the menu as a reader does. Nothing but the server may be asked."""
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(PATIENCE * 1000)
    page.route(lambda url: not url.startswith((lab.url, "data:", "blob:")), refuse)
    # reset: Lab would also open what was open in another page, whose cells then never run here
    page.goto(f"{lab.url}lab/tree/{notebook}?token={lab.token}&reset")
    kernel = page.locator("#jp-main-statusbar")  # run before it is there, Lab asks which kernel is meant
    expect(kernel).to_contain_text("Python 3 (ipykernel) | Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(FINISHED)
    errors = page.locator("[data-mime-type='application/vnd.jupyter.error']").all_inner_texts()
    assert not errors, errors[0]
    return page


def refuse(route: Route) -> None:
    FOREIGN.append(route.request.url)
    route.abort()


FOREIGN: list[str] = []


def output(page: Page, *holds: str) -> Locator:
    """The first output that holds such elements."""
    found = page.locator(".jp-OutputArea-output")
    for each in holds:
        found = found.filter(has=page.locator(each))
    found.first.scroll_into_view_if_needed()
    return found.first


def pixels_of(picture: Locator) -> np.ndarray:
    """The 64x64 pixels that a single enlarged picture in a sheet was made of."""
    url = picture.get_attribute("src") or ""
    dots = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))
    margin, block = 20, (dots.shape[0] - 40) // 64
    return dots[margin + block // 2 : -margin : block, margin + block // 2 : -margin : block]


def pixels_on(canvas: Locator) -> np.ndarray:
    """What the browser has painted."""
    found = canvas.evaluate("c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]")
    return np.array(found, np.uint8).reshape(64, 64, 4)[..., :3]


def drag(page: Page, canvas: Locator, path: list[tuple[float, float]]) -> None:
    """Draw a line over the canvas with the mouse, from and to shares of its sides."""
    box = canvas.bounding_box()
    assert box
    (x, y), *rest = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in path]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(x, y, steps=6)
    page.mouse.up()


def changed(picture: Locator, before: str | None) -> str:
    expect(picture).not_to_have_attribute("src", before or "")
    return picture.get_attribute("src") or ""


@pytest.fixture(scope="module")
def controls(browser: Browser, lab: Lab) -> Page:
    return run_all(browser, lab, "controls.ipynb")


def test_moving_a_slider_with_the_keyboard_changes_the_picture(controls: Page) -> None:
    view = output(controls, ".widget-slider")
    picture, handle = view.locator("img"), view.locator("[role=slider]")
    assert "light = 0.7" in (picture.get_attribute("alt") or "")
    before = picture.get_attribute("src")
    handle.focus()
    controls.keyboard.press("ArrowLeft")
    changed(picture, before)
    assert "light = 0.6" in (picture.get_attribute("alt") or "")
    assert (pixels_of(picture) == 204).all()


def test_what_the_function_raises_is_shown_and_the_next_value_works(controls: Page) -> None:
    view = output(controls, ".widget-slider")
    handle = view.locator("[role=slider]")
    handle.focus()
    controls.keyboard.press("End")
    expect(view.get_by_role("alert")).to_have_text("ValueError: too light to see")
    expect(view.locator("img")).to_have_count(0)
    controls.keyboard.press("Home")
    expect(view.locator("img")).to_have_attribute("alt", "A grey square (light = -1.0)")
    expect(view.get_by_role("alert")).to_have_count(0)


def test_a_frame_slider_listens_to_the_keyboard(controls: Page) -> None:
    view = output(controls, ".frame-slider")
    expect(view.locator("img:visible")).to_have_attribute("alt", "Two greys: dark")
    view.locator("input[type=range]").focus()
    controls.keyboard.press("ArrowRight")
    expect(view.locator("img:visible")).to_have_attribute("alt", "Two greys: light")
    expect(view.locator("output")).to_have_text("light")


def test_painting_with_the_mouse_changes_the_edited_picture(controls: Page) -> None:
    view = output(controls, ".sp-canvas:not([aria-label^='What'])")
    canvas, picture = view.locator(".sp-canvas"), view.locator("img")
    before = picture.get_attribute("src")
    view.get_by_role("button", name="blue").click()
    drag(controls, canvas, [(0.2, 0.3), (0.7, 0.35), (0.6, 0.8)])
    before = changed(picture, before)
    painted = pixels_on(canvas)
    assert 100 < (painted == (47, 111, 222)).all(axis=2).sum() < 2000
    assert (pixels_of(picture) == painted).all(), "Python paints other pixels than the browser"
    view.get_by_role("button", name="eraser").click()
    drag(controls, canvas, [(0.0, 0.5), (1.0, 0.45)])
    before = changed(picture, before)
    assert (pixels_of(picture) == pixels_on(canvas)).all()
    assert (pixels_on(canvas) != painted).any()
    view.get_by_role("button", name="undo").click()
    before = changed(picture, before)
    assert (pixels_on(canvas) == painted).all()
    view.get_by_role("button", name="clear").click()
    changed(picture, before)
    assert (pixels_on(canvas) == (106, 168, 79)).all()


def test_painting_with_the_keyboard(controls: Page) -> None:
    view = output(controls, ".sp-canvas:not([aria-label^='What'])")
    canvas, picture = view.locator(".sp-canvas"), view.locator("img")
    before = picture.get_attribute("src")
    view.get_by_role("button", name="yellow").click()
    canvas.focus()
    for key in (" ", "ArrowRight", "ArrowRight", "Shift+ArrowDown", " "):
        controls.keyboard.press(key)
    changed(picture, before)
    assert tuple(pixels_on(canvas)[32, 34]) == tuple(pixels_on(canvas)[38, 36]) == (245, 211, 39)
    assert (pixels_of(picture) == pixels_on(canvas)).all()


def test_a_mask_is_painted_over_its_picture(controls: Page) -> None:
    view = output(controls, ".sp-canvas[aria-label^='What']")
    canvas = view.locator(".sp-canvas")
    assert (pixels_on(canvas) == 128).all()
    drag(controls, canvas, [(0.5, 0.5), (0.6, 0.5)])
    assert tuple(pixels_on(canvas)[32, 34]) == (171, 83, 134)
    assert tuple(pixels_on(canvas)[2, 2]) == (128, 128, 128)


def test_nothing_was_asked_of_the_network(controls: Page) -> None:
    assert FOREIGN == []


@pytest.mark.parametrize("notebook", ["controls.ipynb", *(lesson.name for lesson in LESSONS)])
def test_a_notebook_is_live_from_end_to_end(browser: Browser, lab: Lab, notebook: str) -> None:
    page = run_all(browser, lab, notebook)
    view = output(page, ".widget-slider", "img")
    picture = view.locator("img").last
    before = picture.get_attribute("src")
    view.locator("[role=slider]").first.focus()
    page.keyboard.press("ArrowLeft")
    changed(picture, before)
    board = output(page, ".sp-canvas", "img")
    picture = board.locator("img").last
    before = picture.get_attribute("src")
    drag(page, board.locator(".sp-canvas"), [(0.3, 0.5), (0.7, 0.6)])
    changed(picture, before)
    expect(board.get_by_role("alert")).to_have_count(0)
