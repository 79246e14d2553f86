"""Turn an executed notebook into a Markdown page and its picture files."""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

IMAGES = {f"image/{kind}": kind.removesuffix("+xml") for kind in ("svg+xml", "png", "jpeg", "webp", "gif")}
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = """!!! tip "Live in JupyterLab"
    This control needs a running kernel: open the lesson in JupyterLab to use it.

"""
ANSI = re.compile(r"\x1b\[[0-9;]*m")
EMBEDDED = re.compile(r"data:(image/[a-z+]+);base64,([A-Za-z0-9+/=]+)")
FENCE = re.compile(r"\s*(```+|~~~+)")
ITEM = re.compile(r"( *)([-*+]|\d+[.)]) ")


@dataclass(frozen=True)
class Page:
    """A page to be written as `<stem>.md` in `folder`, with its pictures in `<stem>_files` beside it."""

    folder: Path
    stem: str

    def picture(self, content: bytes, mime: str) -> str:
        """Write a picture once; return its address relative to the page."""
        name = f"{self.stem}_files/{hashlib.sha256(content).hexdigest()[:16]}.{IMAGES[mime]}"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name


def portable(markdown: str) -> str:
    """Jupyter's Markdown as the site wants it: lists and displayed equations apart, links to pages."""
    lines: list[str] = []
    fence, math = None, False
    for line in markdown.splitlines():
        previous = lines[-1] if lines else ""
        if fence or (opened := FENCE.match(line)):
            closes = fence is not None and line.strip() == fence
            fence = None if closes else fence or opened[1]  # type: ignore[index]
        elif math:
            math = not line.rstrip().endswith("$$")
        elif item := ITEM.match(line):
            if previous.strip() and not ITEM.match(previous) and not previous.startswith(" "):
                lines.append("")
            line = " " * (4 * ((len(item[1]) + 2) // 4)) + line.lstrip()  # nested by 2, 3 or 4: by 4
        elif line.startswith("$$"):
            if previous.strip():
                lines.append("")
            math = line.count("$$") == 1
        elif previous.rstrip().endswith("$$") and line.strip():
            lines.append("")
        lines.append(line)
    text = "\n".join(lines)
    text = re.sub(r"\]\((?!\w+:)([^)\s]+)\.ipynb(#[^)]*)?\)", r"](\1.md\2)", text)
    text = text.replace("](../../docs/", "](../../").replace("<details>", '<details markdown="1">')
    return text + "\n\n"


def fenced(text: str, language: str) -> str:
    marks = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    return f"{marks} {language}\n{text}\n{marks}\n\n"


def _image(data: dict[str, str], mime: str, metadata: dict, page: Page) -> str:
    alt = metadata.get("alt") or metadata.get(mime, {}).get("alt")
    if not alt:
        raise ValueError(f"{page.stem}: a picture has no alt text; show it with course.figures")
    content = data[mime].encode() if mime == "image/svg+xml" else base64.b64decode(data[mime])
    width = f' width="{size}"' if (size := metadata.get(mime, {}).get("width")) else ""
    source = page.picture(content, mime)
    return f'<p><img class="nb-image" src="{source}" alt="{html.escape(alt)}"{width}></p>\n\n'


def _html(text: str, page: Page) -> str:
    def to_file(match: re.Match[str]) -> str:
        return page.picture(base64.b64decode(match[2]), match[1])

    text = EMBEDDED.sub(to_file, text).strip()
    return '<div class="nb-html" markdown="0">\n' + re.sub(r"\n\s*\n", "\n", text) + "\n</div>\n\n"


def output_markdown(output: Mapping[str, Any], page: Page) -> str:
    """One output as Markdown: the richest form that a page without a kernel can show; stderr is dropped."""
    kind = output["output_type"]
    if kind == "stream":
        text = ANSI.sub("", output["text"]).rstrip()
        return fenced(text, "{ .text .nb-output }") if text and output["name"] == "stdout" else ""
    if kind == "error":
        return fenced(f"{output['ename']}: {output['evalue']}", "{ .text .nb-output }")
    data = dict(output["data"])
    if data.pop(WIDGET, None) is not None:  # the note, and below it the still picture that our widgets bring
        data.pop("text/plain", None)
        return WIDGET_NOTE + output_markdown({**output, "data": data}, page)
    if "text/html" in data:
        return _html(data["text/html"], page)
    for mime in IMAGES:
        if mime in data:
            return _image(data, mime, output.get("metadata", {}), page)
    if "text/latex" in data:
        return portable(data["text/latex"])
    if "text/markdown" in data:
        return portable(data["text/markdown"])
    return fenced(data["text/plain"], "{ .text .nb-output }") if "text/plain" in data else ""


def convert(notebook: NotebookNode, page: Page, header: str = "") -> str:
    """Write the page and its pictures; return its title. `header` is set below the title.

    Cells tagged `remove-cell` are left out, `remove-input` shows only outputs, `hide-input` folds the code.
    """
    parts: list[str] = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "remove-cell" in tags or not cell.source.strip():
            continue
        if cell.cell_type == "markdown":
            parts.append(portable(cell.source))
        elif cell.cell_type == "code":
            code = fenced(cell.source, "python")
            if "hide-input" in tags:
                code = '??? example "Code"\n\n' + re.sub(r"^(?=.)", "    ", code, flags=re.MULTILINE)
            parts.append("" if "remove-input" in tags else code)
            parts += [output_markdown(output, page) for output in cell.get("outputs", [])]
    title, _, body = "".join(parts).partition("\n")
    if not title.startswith("# "):
        raise ValueError(f"{page.stem}: a lesson starts with its title, '# …', not with {title[:40]!r}")
    page.folder.mkdir(parents=True, exist_ok=True)
    (page.folder / f"{page.stem}.md").write_text(f"{title}\n\n{header}\n\n{body.lstrip()}", "utf8")
    return title.removeprefix("# ").strip()
