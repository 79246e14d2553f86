"""The frame: the same tasks, the same measures and the same count of calls for every editor."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch
from torch import Tensor, nn

from course.compare.editor import Editor, Given, Settings
from course.core.model import Model
from course.world.metrics import as_tensor, psnr, score_edit
from course.world.recogniser import Recogniser
from course.world.tasks import EditTask, edit_tasks

KINDS = ("recolour", "swap", "background", "style", "add", "remove")
GROUPS, FIRST_SEED = 5, 3000
EQUAL = 60.0  # decibels that equal pictures get
APART = 1 << 20  # random numbers from one task's to the next one's


@dataclass(frozen=True, eq=False)
class Case:
    """Something to edit, its group (spread is taken over groups), its kind, and the truth where one knows."""

    given: Given
    group: int
    kind: str
    task: EditTask | None = None


def sticker_cases(tasks: int) -> list[Case]:
    """Edit tasks in five groups of as many, each with a seed of its own and the kinds in turn.

    Raises ValueError unless each group gets each kind equally often.
    """
    once = GROUPS * len(KINDS)
    if isinstance(tasks, bool) or not isinstance(tasks, int) or tasks < once or tasks % once:
        raise ValueError(
            f"tasks must be a multiple of {once} ({GROUPS} groups, {len(KINDS)} kinds), got {tasks!r}"
        )
    return [
        Case(given_by(task), group, task.kind, task)
        for group in range(GROUPS)
        for task in edit_tasks(FIRST_SEED + group, tasks // GROUPS, KINDS)
    ]


def given_by(task: EditTask) -> Given:
    """What a task tells an editor; the true mask too, for those that need one."""
    mask = torch.from_numpy(task.mask())[None, None].float()
    return Given(
        as_tensor([task.source_image()]), task.source_prompt, task.target_prompt, task.instruction, mask
    )


def part(cases: Sequence[Case]) -> list[int]:
    """The cases that slow editors get, by index: in each group the first of each kind."""
    first: dict[tuple[int, str], int] = {}
    for index, case in enumerate(cases):
        first.setdefault((case.group, case.kind), index)
    return sorted(first.values())


def generators(count: int) -> Iterator[torch.Generator]:
    """One for each case, the same for every editor and on every machine: places along one stream."""
    stream = torch.Generator()  # a new one always starts alike
    for _ in range(count):
        yield stream.clone_state()
        torch.rand(APART, generator=stream)


@contextmanager
def counted(unet: nn.Module) -> Iterator[list[int]]:
    """The rows of each call of the U-Net within the block."""
    rows: list[int] = []
    hook = unet.register_forward_pre_hook(
        lambda _, args, options: rows.append(len(args[0] if args else options["sample"])), with_kwargs=True
    )
    try:
        yield rows
    finally:
        hook.remove()


@dataclass(frozen=True)
class Found:
    """One edit, measured; None where nobody can tell.

    success: all of the target is read. kept, target: decibels to the source outside the mask, and to the true
    result. calls, rows: of the U-Net. seconds: on a CPU, of its cores' work, whatever else the machine does.
    """

    case: int
    success: bool | None
    kept: float | None
    target: float | None
    calls: int
    rows: int
    seconds: float


def lacking(editor: Editor, cases: Sequence[Case]) -> str | None:
    """Why no case can be given to the editor, if so."""
    missing = [name for name in editor.needs if all(getattr(case.given, name) is None for case in cases)]
    return f"needs {' and '.join(missing)}, and no picture has it" if missing else None


def measure(
    editor: Editor,
    model: Model,
    cases: Sequence[Case],
    settings: Settings,
    recogniser: Recogniser | None = None,
    show: Callable[[int, Tensor], None] = lambda case, picture: None,
) -> list[Found]:
    """The editor on all cases that have what it needs, a slow one on a part of them.

    model: as `editor.opened` gives it. recogniser: reads the results of cases whose truth is known. show: is
    handed each result, [1 3 H W].
    """
    chosen = part(cases) if editor.slow else range(len(cases))
    clock = time.process_time if model.device.type == "cpu" else time.perf_counter
    found = []
    for index, generator in enumerate(generators(len(cases))):
        given = cases[index].given
        if index not in chosen or any(getattr(given, name) is None for name in editor.needs):
            continue
        with counted(model.unet) as rows:
            start = clock()
            picture = editor.edit(model, given, settings, generator).cpu()  # a GPU has then finished
            seconds = clock() - start
        show(index, picture)
        about = (len(rows), sum(rows), round(seconds, 4))
        found.append(Found(index, *_judged(cases[index], picture, recogniser), *about))
    return found


def _judged(
    case: Case, picture: Tensor, recogniser: Recogniser | None
) -> tuple[bool | None, float | None, float | None]:
    if case.task is not None and recogniser is not None:
        score = score_edit(recogniser, case.task, picture)
        return score.success, _decibels(score.kept_psnr), _decibels(score.target_psnr)
    keep = None if case.given.mask is None else case.given.mask == 0
    if keep is None or not keep.any():
        return None, None, None
    return None, _decibels(psnr(picture, case.given.picture, keep)), None


def _decibels(value: float) -> float | None:
    return None if isnan(value) else round(min(value, EQUAL), 3)


def fingerprint(model: Model) -> str:
    """Twelve letters that tell whether the U-Net has been trained anew."""
    ends = (model.unet.conv_in.weight, model.unet.conv_out.weight)
    content = b"".join(each.detach().float().cpu().numpy().tobytes() for each in ends)
    return hashlib.sha256(content).hexdigest()[:12]


def frame_of(name: str, model: Model, cases: Sequence[Case], settings: Settings) -> dict[str, Any]:
    """What has to be equal for two measurements to stand in one table."""
    told = [
        [case.group, case.kind, case.given.source, case.given.target, case.given.instruction]
        for case in cases
    ]
    return {
        "model": name,
        "weights": fingerprint(model),
        "steps": settings.steps,
        "guidance_scale": settings.scale,
        "imagic": {**settings.imagic, "guidance_scale": settings.imagic_scale},
        "cases": told,
    }
