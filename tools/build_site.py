"""Build the site from the executed notebooks: `python -m tools.build_site`.

Pages are put together in build/docs and rendered, strictly, to build/site. Nothing is executed here: a lesson
whose executed copy is missing or stale, or a claim that no lesson measured, stops the build.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import yaml

from tools import notebooks
from tools.api_pages import api_pages, lessons_by_name, library
from tools.notebook_markdown import Page, convert

Record = Mapping[str, Any]


def settings(root: Path) -> dict[str, Any]:
    """The `extra` values of mkdocs.yml."""
    return yaml.safe_load((root / "mkdocs.yml").read_text("utf8"))["extra"]


def header(notebook: str, seconds: float, repo_url: str) -> str:
    """What stands below a lesson's title: how to open it, and how long it ran."""
    buttons = "[Run locally](../../run.md){ .md-button }"
    if repo_url:
        repository = repo_url.removeprefix("https://github.com/").rstrip("/")
        colab = f"https://colab.research.google.com/github/{repository}/blob/main/{notebook}"
        buttons = f"[Open in Colab]({colab}){{ .md-button }} {buttons}"
    return f"{buttons}\n\n`{notebook}` · ran in {seconds:.0f} s when this page was built"


def build_lessons(root: Path, docs: Path) -> dict[str, list[tuple[str, str]]]:
    """Convert every lesson; return for each chapter its (page, title) pairs in reading order."""
    repo_url = settings(root)["repo_url"]
    chapters: dict[str, list[tuple[str, str]]] = {}
    for path in notebooks.lessons(root):
        copy = notebooks.executed_copy(path, root)
        where = path.relative_to(root)
        chapter = path.parent.name
        page = Page(docs / "lessons" / chapter, path.stem)
        title = convert(copy, page, header(where.as_posix(), copy.metadata["course"]["seconds"], repo_url))
        chapters.setdefault(chapter, []).append((f"lessons/{chapter}/{path.stem}.md", title))
    if not chapters:
        raise notebooks.StaleNotebook(f"{root / 'notebooks'} holds no lesson, and a site needs one")
    return chapters


def claims_table(records: list[Record]) -> str:
    """One table of every claim, the failed ones in plain words."""
    rows = ["| Claim | Measured here | Verdict |", "| --- | --- | --- |"]
    for record in sorted(records, key=lambda record: (record["lesson"], record["id"])):
        lesson = record["lesson"].removeprefix("notebooks/").removesuffix(".ipynb")
        measured = "<br>".join(
            f"{method}: {value['mean']:.3g} ± {value['std']:.2g} (n = {value['n']})"
            for method, value in record["measured"].items()
        )
        verdict = f"**{record['verdict']}**" + (f": {record['reason']}" if record.get("reason") else "")
        source = f"*{record['paper']}, {record['where']}* · [lesson](lessons/{lesson}.md)"
        claim = f"{record['statement']}<br>{source}"
        cells = (claim, f"{record['metric']}<br>{measured}<br>must hold: {record['rule']}", verdict)
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text).replace("|", "\\|")


def read_claims(folder: Path, expected: set[str]) -> list[Record]:
    """The recorded claims, which must be the expected ones."""
    records = [json.loads(path.read_text("utf8")) for path in sorted(folder.glob("*.json"))]
    found = {record["id"] for record in records}
    if found != expected:
        raise ValueError(
            f"each claim must be measured by a lesson: not measured {sorted(expected - found)}, "
            f"measured but not listed {sorted(found - expected)}; run `make notebooks`"
        )
    return records


def fill(path: Path, mark: str, text: str) -> None:
    """Replace the comment `<!-- mark -->` in a page."""
    page = path.read_text("utf8")
    if f"<!-- {mark} -->" not in page:
        raise ValueError(f"{path.name} must say where its {mark} go, with the line <!-- {mark} -->")
    path.write_text(page.replace(f"<!-- {mark} -->", text), "utf8")


def fill_chapters(docs: Path, chapters: dict[str, list[tuple[str, str]]]) -> None:
    for chapter, lessons in chapters.items():
        index = docs / "lessons" / chapter / "index.md"
        if not index.is_file():
            raise FileNotFoundError(f"chapter {chapter} has no page: write docs/lessons/{chapter}/index.md")
        links = [f"1. [{title}]({Path(page).name})" for page, title in lessons]
        fill(index, "lessons", "\n".join(links))


def write_api(root: Path, docs: Path) -> list[str]:
    """Write the API pages; return their names."""
    modules = library(root)
    labelled = []
    for path in notebooks.lessons(root):
        notebook = nbformat.read(path, as_version=4)
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        labelled.append((f"[{title}](../lessons/{path.parent.name}/{path.stem}.md)", notebook))
    pages = api_pages(modules, lessons_by_name(labelled, modules))
    for name, text in pages.items():
        (docs / "api" / f"{name}.md").write_text(text, "utf8")
    return sorted(pages)


def navigation(chapters: dict[str, list[tuple[str, str]]], docs: Path, api: list[str]) -> list[Any]:
    """The site's menu."""
    sections = []
    for chapter, lessons in chapters.items():
        index = f"lessons/{chapter}/index.md"
        name = (docs / index).read_text("utf8").splitlines()[0].removeprefix("# ")
        sections.append({name: [index, *({title: page} for page, title in lessons)]})
    return [
        {"Home": ["index.md", {"Run it": "run.md"}, {"Teach with it": "teaching.md"}]},
        {"Lessons": sections},
        {"Claims": "claims.md"},
        {"Comparison": "comparison.md"},
        {"Benchmarks": "benchmarks.md"},
        {"Library": ["api/index.md", *(f"api/{name}.md" for name in api)]},
    ]


def assemble(root: Path, claims: set[str]) -> Path:
    """Put the pages together in build/docs; return the configuration file to render them with."""
    build = root / "build"
    docs = build / "docs"
    shutil.rmtree(docs, ignore_errors=True)
    shutil.copytree(root / "docs", docs)
    chapters = build_lessons(root, docs)
    fill_chapters(docs, chapters)
    fill(docs / "claims.md", "claims", claims_table(read_claims(build / "claims", claims)))
    config: dict[str, Any] = {"INHERIT": "../mkdocs.yml", "docs_dir": "docs", "site_dir": "site"}
    config |= {"nav": navigation(chapters, docs, write_api(root, docs))}
    path = build / "mkdocs.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), "utf8")
    return path


def render(config: Path) -> int:
    """Render strictly: a warning is an error (but not under --quiet). Returns the exit status."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config)]
    return subprocess.run(command, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}).returncode


def main() -> int:
    from course.claims import CLAIMS

    try:
        config = assemble(notebooks.ROOT, set(CLAIMS))
    except (notebooks.StaleNotebook, ValueError, FileNotFoundError) as error:
        print(f"the site was not built: {error}", file=sys.stderr)
        return 1
    return render(config)


if __name__ == "__main__":
    raise SystemExit(main())
