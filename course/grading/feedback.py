"""One page of feedback for each student: a single HTML file that needs nothing else and runs no script."""

import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from course.grading.grade import write_whole

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #ccc }}
td.points {{ white-space: nowrap }}
td.message {{ white-space: pre-wrap; overflow-wrap: anywhere }}
pre {{ background: #f4f4f4; padding: .6rem; white-space: pre-wrap; overflow-wrap: anywhere }}
pre.output {{ background: #fff; border-left: 3px solid #ccc }}
</style></head><body>
<h1>{title}</h1>
<p><strong>{points:g} of {of:g} points</strong>{by_hand}</p>
{problem}
<h2>Checks</h2>
<table><thead><tr><th>Check</th><th>Points</th><th>What it says</th></tr></thead><tbody>
{checks}
</tbody></table>
{notes}
<h2>What was run</h2>
{cells}
</body></html>
"""


def feedback(results: Path) -> list[Path]:
    """Write results/feedback/NAME.html for every student of results/results.json; the paths.

    Raises FileNotFoundError where nothing was graded into `results`.
    """
    summary = results / "results.json"
    if not summary.is_file():
        raise FileNotFoundError(f"no {summary}: grade into this folder first")
    folder = results / "feedback"
    folder.mkdir(exist_ok=True)
    graded = json.loads(summary.read_text("utf8"))
    pages = []
    for student in graded["students"]:
        record = json.loads((results / "records" / f"{student['slug']}.json").read_text("utf8"))
        page = folder / f"{student['slug']}.html"
        write_whole(page, render(record, graded["assignment"]))
        pages.append(page)
    return pages


def render(record: Mapping[str, Any], assignment: str) -> str:
    """The page for one record. Whatever a student wrote or printed is escaped."""
    problem = record.get("refused") or record.get("failed")
    checks = "\n".join(
        f"<tr><td>{'✓' if check['passed'] else '✗'} {escape(check['id'])}</td>"
        f'<td class="points">{check["points"]:g} of {check["of"]:g}</td>'
        f'<td class="message">{escape(check["message"]) or "Right."}</td></tr>'
        for check in record["checks"]
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in record["notes"])
    return PAGE.format(
        title=escape(f"{assignment}: {record['name']}"),
        points=record["points"],
        of=record["of"],
        by_hand=f", and up to {record['by_hand']:g} that your teacher gives" if record["by_hand"] else "",
        problem=f"<p><strong>Not graded: {escape(problem)}.</strong></p>" if problem else "",
        checks=checks,
        notes=f"<h2>Remarks</h2><ul>{notes}</ul>" if notes else "",
        cells="\n".join(map(_cell, record["cells"])),
    )


def _cell(cell: Mapping[str, Any]) -> str:
    if "text" in cell:
        return f"<pre>{escape(cell['text'])}</pre>"
    output = cell["output"]
    parts = [f"<pre>{escape(cell['code'])}</pre>"]
    if output["text"].strip():
        parts.append(f'<pre class="output">{escape(output["text"])}</pre>')
    for piece in output["shown"]:
        if "text" in piece:
            parts.append(f'<pre class="output">{escape(piece["text"])}</pre>')
        elif re.fullmatch(r"[A-Za-z0-9+/=]+", piece["png"]):
            picture = f"data:image/png;base64,{piece['png']}"
            parts.append(f'<img alt="a picture that the cell shows" src="{picture}">')
    return "\n".join(parts)
