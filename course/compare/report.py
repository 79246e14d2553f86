"""The comparison as tables in Markdown and as a chart."""

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from course.compare.editors import EDITORS
from course.compare.results import Results, Spread, write
from course.figures.figure import COLOURS, QUIET, Figure, finished, require_alt, sheet

OVERALL = (
    "editor | chapter | is given | edits that succeed | kept, dB | to the true result, dB | "
    "U-Net calls | rows | seconds | tasks"
)
MARKERS = "os^Dv*P"


def ordered(results: Results) -> list[str]:
    """The measured editors as the code lists them, others after them."""
    known = [editor.name for editor in EDITORS if editor.name in results.measured]
    return known + [name for name in results.measured if name not in known]


def overall(results: Results) -> str:
    """A line for each editor: means over groups with standard deviations; medians of calls and seconds."""
    rows = []
    for name in ordered(results):
        about, count = results.about[name], len(results.measured[name])
        given = "picture" if not about["needs"] else ", ".join(map(_spoken, about["needs"]))
        rows.append(
            (
                name,
                about["chapter"] or "-",
                given,
                _told(results.spread(name, "success"), ".0%"),
                _told(results.spread(name, "kept"), ".1f"),
                _told(results.spread(name, "target"), ".1f"),
                *(f"{results.typical(name, of):.0f}" for of in ("calls", "rows")),
                f"{results.typical(name, 'seconds'):.1f}",
                count,
            )
        )
    return table(OVERALL, rows)


def by_kind(results: Results, of: str = "success") -> str:
    """A line for each editor, a column for each kind of edit; the best editors of each kind are bold.

    of: "success", "kept" or "target". What is no editor (chapter -) does not compete.
    """
    names, kinds = ordered(results), results.kinds()
    cells = {(name, kind): results.spread(name, of, kind) for name in names for kind in kinds}
    rows = []
    for name in names:
        row = [name]
        for kind in kinds:
            rivals = [cells[other, kind] for other in names if results.about[other]["chapter"]]
            best = max((rival.mean for rival in rivals if rival), default=None)
            mine = cells[name, kind]
            told = "-" if mine is None else f"{mine.mean:{'.0%' if of == 'success' else '.1f'}}"
            wins = mine is not None and mine.mean == best and results.about[name]["chapter"]
            row.append(f"**{told}**" if wins else told)
        rows.append(row)
    return table(" | ".join(["editor", *kinds]), rows)


def markdown(results: Results, machine: dict[str, object]) -> str:
    """All tables, what they were measured on, and who is missing."""
    frame = results.frame
    groups = len({group for group, *_ in frame["cases"]})
    told = [
        f"{frame['model']}, {frame['steps']} steps, guidance scale {frame['guidance_scale']:g}; "
        f"{len(frame['cases'])} tasks in {groups} groups; {machine['processor']}, {machine['threads']} "
        f"threads, torch {machine['torch']}.",
        overall(results),
    ]
    if any(results.spread(name, "success") for name in results.measured):
        told += ["### Edits that succeed, by kind", by_kind(results)]
        told += ["### Kept, by kind (dB)", by_kind(results, "kept")]
    told += [f"Left out: {name} ({why})." for name, why in results.skipped.items()]
    return "\n\n".join(told)


def table(head: str, rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; the names in `head` stand between bars."""
    names = head.split(" | ")
    lines = [names, ["---"] + ["--:"] * (len(names) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def plane(results: Results, *, alt: str, names: Sequence[str] | None = None) -> Figure:
    """Success against what is kept: an editor's groups, pale, and their mean with its spread.

    Colours stand for chapters; a line joins SDEdit's strengths. An editor that lacks one of
    both measures is left out.
    """
    alt, chosen = require_alt(alt), list(names or ordered(results))
    both = {name: (results.by_group(name, "kept"), results.by_group(name, "success")) for name in chosen}
    both = {name: pair for name, pair in both.items() if len(pair[0]) == len(pair[1]) > 0}
    if not both:
        raise ValueError("no editor has both, success and kept, measured: there is nothing to draw")
    seen: dict[int, int] = {}
    line = [(fmean(x), fmean(y)) for name, (x, y) in both.items() if name.startswith("SDEdit")]
    with sheet(900, 460) as page:
        page.set_layout_engine("constrained", w_pad=8 / 72, h_pad=8 / 72)
        axes = page.add_subplot()
        axes.plot(*zip(*line, strict=True) if line else ((), ()), color=COLOURS[0], linewidth=1, alpha=0.5)
        for name, (x, y) in both.items():
            chapter = results.about[name]["chapter"] or 0
            colour = COLOURS[chapter - 1] if chapter else QUIET
            marker = MARKERS[seen.setdefault(chapter, 0) % len(MARKERS)]
            seen[chapter] += 1
            axes.scatter(x, y, color=colour, marker=marker, s=14, alpha=0.3, linewidths=0)
            tall, wide = (stdev(each) if len(each) > 1 else 0.0 for each in (y, x))
            label = f"{name} ({chapter})" if chapter else name
            axes.errorbar(fmean(x), fmean(y), tall, wide, marker, color=colour, ms=8, capsize=2, label=label)
        axes.set_xlabel("PSNR where nothing should change (dB)")
        axes.set_ylabel("share of edits that succeed")
        axes.grid(color="#d8dee4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=11)
        return finished(page, alt)


def write_page(path: Path, tables: str, name: str = "comparison") -> None:
    """Put the tables between the page's two marks of that name. Raises ValueError where they are missing."""
    page, begin, end = path.read_text("utf8"), f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if not re.search(f"{begin}.*{end}", page, re.DOTALL):
        raise ValueError(f"{path} lacks the marks {begin} and {end}: put them where the tables belong")
    before, after = page.split(begin)[0], page.split(end)[1]
    write(path, f"{before}{begin}\n{tables}\n{end}{after}")


def _told(spread: Spread | None, spec: str) -> str:
    return "-" if spread is None else f"{spread:{spec}}"


def _spoken(need: str) -> str:
    return {"source": "source prompt", "target": "target prompt", "mask": "true mask"}.get(need, need)
