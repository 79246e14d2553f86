"""python -m course.compare [--tasks N] [--out F.json] [--markdown F] [--only NAME ...] [--again]
python -m course.compare --model FOLDER --pictures F.json [--save FOLDER] [--steps N]

Every editor of chapters 1 to 4 on the same edits, measured alike. Finished editors are kept in the file --out
at once: start the command again after it was interrupted, and it goes on with the next editor.
"""

import argparse
import platform
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from course.compare import report
from course.compare.editor import PAPERS, STICKERS, Editor, Settings
from course.compare.editors import EDITORS
from course.compare.measure import Case, frame_of, lacking, measure, sticker_cases
from course.compare.pictures import picture_cases, saver
from course.compare.results import Results, as_json, read_results, write
from course.core.model import Model, load
from course.world.recogniser import Recogniser

ALT = "Share of edits that succeed against the likeness to the source where nothing should change, by editor."


def compare(
    model: Model,
    name: str,
    cases: Sequence[Case],
    settings: Settings,
    out: Path,
    *,
    editors: Sequence[Editor] = EDITORS,
    again: bool = False,
    save: Path | None = None,
) -> Results:
    """Measure the editors that the file `out` lacks, and write it after each of them.

    again: measure all of `editors` anew. save: a folder for the edited pictures.
    Raises ValueError where `out` holds something else, or a comparison on another model or other tasks and
    not all of it is measured again.
    """
    frame = frame_of(name, model, cases, settings)
    about, measured, skipped = _known(out, frame, editors, again) if out.exists() else ({}, {}, {})
    recogniser = Recogniser.load() if any(case.task for case in cases) else None
    for editor in editors:
        if editor.name in measured:
            print(f"{editor.name}: measured already", flush=True)
            continue
        skipped.pop(editor.name, None)
        why = lacking(editor, cases)
        try:
            opened = editor.opened(model) if why is None else model
        except FileNotFoundError as missing:
            why = re.sub(r"\S*/(?=\S+:)", "", str(missing).split(":")[0] + ":").rstrip(":")
        if why is not None:
            skipped[editor.name] = why
            print(f"{editor.name}: left out, {why}", flush=True)
        else:
            show = saver(save, editor.name)
            measured[editor.name] = measure(editor, opened, cases, settings, recogniser, show)
            about[editor.name] = editor.entry()
            print(_line(Results(frame, about, measured, skipped), editor.name), flush=True)
        write(out, as_json(Results(frame, about, measured, skipped), machine()))
    return Results(frame, about, measured, skipped)


def _known(
    out: Path, frame: dict[str, Any], editors: Sequence[Editor], again: bool
) -> tuple[dict, dict, dict]:
    """What the file holds of this frame, less the editors that have changed since or are asked for again."""
    before, now = read_results(out), {editor.name: editor.entry() for editor in editors}
    if before.frame != frame:
        if again and set(before.measured) <= set(now):
            return {}, {}, {}
        changed = [key for key in frame if before.frame.get(key) != frame[key]]
        raise ValueError(
            f"{out} was measured with other {', '.join(changed)}: measure all that it holds anew with "
            "--again, or choose another --out"
        )
    kept = [
        name
        for name, entry in before.about.items()
        if name in before.measured and now.get(name, entry) == entry and not (again and name in now)
    ]
    return {n: before.about[n] for n in kept}, {n: before.measured[n] for n in kept}, before.skipped


def _line(results: Results, name: str) -> str:
    told = [
        f"{label} {found:{spec}}"
        for label, of, spec in (("success", "success", ".0%"), ("kept", "kept", ".1f"))
        if (found := results.spread(name, of))
    ]
    seconds = sum(found.seconds for found in results.measured[name])
    return ", ".join([f"{name}: {seconds:.0f} s", *told])


def machine() -> dict[str, Any]:
    """What seconds depend on."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else []
    processor = names[0] if names else platform.processor() or platform.machine()
    return {"processor": processor, "threads": torch.get_num_threads(), "torch": torch.__version__}


def chosen(only: Sequence[str]) -> list[Editor]:
    """The editors of these names, all for none. Raises ValueError for an unknown one."""
    names = [editor.name for editor in EDITORS]
    if unknown := [name for name in only if name not in names]:
        raise ValueError(f"unknown editor {unknown[0]!r}: use one of {', '.join(names)}")
    return [editor for editor in EDITORS if editor.name in (only or names)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write them down."""
    parser = argparse.ArgumentParser(prog="python -m course.compare", description=__doc__)
    parser.add_argument("--tasks", type=int, default=60, help="of the sticker world, a multiple of 30")
    parser.add_argument("--pictures", type=Path, help="pictures of your own, in place of tasks")
    parser.add_argument("--model", default="stickers", help="as load() takes it")
    parser.add_argument("--steps", type=int, help="of a whole walk")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="editors, by name")
    parser.add_argument("--again", action="store_true", help="measure anew those that are finished")
    parser.add_argument("--out", type=Path, default=Path("build/comparison.json"))
    parser.add_argument("--markdown", type=Path, help="page to write into (docs/comparison.md)")
    parser.add_argument("--save", type=Path, help="folder for the edited pictures")
    asked = parser.parse_args(arguments)
    settings = STICKERS if asked.model == "stickers" else PAPERS
    try:
        editors = chosen(asked.only)
        settings = settings if asked.steps is None else replace(settings, steps=asked.steps)
        if asked.pictures is None and asked.model != "stickers":
            raise ValueError("tasks are of the sticker world: another model needs --pictures")
        cases = sticker_cases(asked.tasks) if asked.pictures is None else []
        model = load(asked.model, dtype=torch.float32)
        cases = cases or picture_cases(asked.pictures, model.image_size)
        options: dict[str, Any] = {"editors": editors, "again": asked.again, "save": asked.save}
        results = compare(model, asked.model, cases, settings, asked.out, **options)
        told = report.markdown(results, machine())
        print(told)
        if asked.markdown is not None:
            chart = Path("assets/comparison.png")
            write(asked.markdown.parent / chart, report.plane(results, alt=ALT).png)
            report.write_page(asked.markdown, f"{told}\n\n![{ALT}]({chart.as_posix()})")
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
