"""Check a built site: `python -m tools.check_site build/site`.

From its files: nothing is fetched from elsewhere, every internal link leads somewhere, every picture has an
alt text. In a real browser that reaches nothing but this site, served and opened as files: equations are set,
frame sliders move, search finds.
"""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from playwright.sync_api import Page, TimeoutError, sync_playwright

from tools.programs import BROWSER_ARGS, PROGRAMS, required

REMOTE = re.compile(r"(https?:)?//")
REMOTE_IN_CSS = re.compile(r"""(?:url\(\s*|@import\s+)['"]?(?:https?:)?//[^)'"\s]+""")
PATIENCE = 120_000  # milliseconds: the machine may be busy
SHOWN = "f => [...f.querySelectorAll('img')].filter(i => i.offsetParent).map(i => i.currentSrc).join()"


class Document(HTMLParser):
    """The addresses, anchors and unnamed pictures of an HTML file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.without_alt: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[key] for key in ("id", "name") if key in values}
        if tag == "a":
            self.links += [values["href"]] if "href" in values else []
            return
        self.loaded += [values[key] for key in ("src", "href", "poster", "data") if values.get(key)]
        self.loaded += [part.split()[0] for part in values.get("srcset", "").split(",") if part.strip()]
        if tag == "img" and not values.get("alt", "").strip():
            self.without_alt.append(values.get("src", "?"))


def file_problems(site: Path) -> list[str]:
    """What the files of a site show to be wrong."""
    documents = {path: Document(path.read_text("utf8")) for path in sorted(site.rglob("*.html"))}
    problems = [] if documents else [f"{site} holds no page"]
    for path, document in documents.items():
        where = path.relative_to(site).as_posix()
        problems += [f"{where}: fetches {address}" for address in document.loaded if REMOTE.match(address)]
        problems += [f"{where}: a picture without alt text: {source}" for source in document.without_alt]
        if where != "404.html":  # its addresses are absolute: it is served for any path
            addresses = [*document.links, *document.loaded]
            dead = [address for address in addresses if not _leads(address, path, documents)]
            problems += [f"{where}: leads nowhere: {address}" for address in dead]
    for path in [*site.rglob("*.css"), *documents]:
        for found in REMOTE_IN_CSS.findall(path.read_text("utf8")):
            problems.append(f"{path.relative_to(site).as_posix()}: fetches {found}")
    return problems


def _leads(address: str, page: Path, documents: dict[Path, Document]) -> bool:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return True
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return False
    anchor = unquote(parts.fragment)
    return not anchor or target not in documents or anchor in documents[target].ids


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The site's address while it is served."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("localhost", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()


def browser_problems(site: Path, executable: str, patience: int = PATIENCE) -> list[str]:
    """What a browser finds wrong with a site, served and opened as files. patience: for search, in ms."""
    problems: list[str] = []
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(BROWSER_ARGS))
        for base in (address, site.resolve().as_uri() + "/"):
            page = browser.new_page()
            page.set_default_timeout(PATIENCE)
            _watch(page, base, problems)
            problems += [f"{base}: {problem}" for problem in _visit(page, site, base, patience)]
            page.close()
        browser.close()
    return problems


def _watch(page: Page, base: str, problems: list[str]) -> None:
    """Let the page reach nothing but its own site; note what it wanted besides, and what failed."""

    def guard(route):  # type: ignore[no-untyped-def]
        url = route.request.url
        if url.startswith((base, "data:", "blob:")):
            route.continue_()
        else:
            problems.append(f"{page.url}: asked for {url}")
            route.abort()

    page.route("**/*", guard)
    page.on("pageerror", lambda error: problems.append(f"{page.url}: script error: {error}"))
    page.on("response", lambda got: problems.extend([f"{got.url}: {got.status}"] * (got.status >= 400)))


def _visit(page: Page, site: Path, base: str, patience: int) -> Iterator[str]:
    equations = sliders = 0
    for path in sorted(set(site.rglob("*.html")) - {site / "404.html"}):
        page.goto(base + path.relative_to(site).as_posix())
        equations += page.locator(".arithmatex").count()
        unset = page.locator(".arithmatex:not(:has(.katex)), .katex-error").count()
        if unset:
            yield f"{path.name}: {unset} equations are not set"
        for slider in page.locator("figure.frame-slider").all():
            sliders += 1
            before = slider.evaluate(SHOWN)
            handle = slider.locator("input[type=range]")
            handle.press("End" if handle.input_value() != handle.get_attribute("max") else "Home")
            if slider.evaluate(SHOWN) == before:
                yield f"{path.name}: a frame slider moves and its picture stays"
    if not equations:
        yield "no equation on any page"
    if not sliders:
        yield "no frame slider on any page"
    yield from _search(page, base, patience)


def _search(page: Page, base: str, patience: int) -> Iterator[str]:
    """Search for a word that stands on the first page, and for one that stands nowhere."""
    page.goto(base + "index.html")
    box, status = page.locator("input.md-search__input"), page.locator(".md-search-result__meta")
    box.click()
    for word, answer in (
        ("", "Type to start"),
        ("diffusion", r"\d matching document"),
        ("xqzvkw", "No matching document"),
    ):
        box.fill("")
        box.press_sequentially(word)
        try:
            status.filter(has_text=re.compile(answer)).wait_for(timeout=patience)
        except TimeoutError:
            yield f"search for {word!r}: {status.inner_text()!r}"


def main() -> int:
    site = Path(sys.argv[1])
    problems = file_problems(site)
    chromium = PROGRAMS["chromium"]
    if executable := chromium.find():
        problems += browser_problems(site, executable)
    elif required():
        problems.append(chromium.complaint)
    pages = len([*site.rglob("*.html")])
    print(*problems, f"{pages} pages, {len(problems)} problems", sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
