"""The frame: the same tasks and noises for all, and scores that know a good edit from a bad one."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from course.compare import measure as frame
from course.compare.editor import STICKERS, Editor
from course.compare.measure import FIRST_SEED, GROUPS, KINDS, generators, measure, part, sticker_cases
from course.world.metrics import as_tensor
from course.world.recogniser import Recogniser
from course.world.tasks import edit_tasks
from tests.compare.conftest import QUICK


@pytest.fixture(scope="module")
def stickers():
    return sticker_cases(60)


def test_the_tasks_are_balanced_and_never_trained_on(stickers):
    assert Counter((case.group, case.kind) for case in stickers) == Counter(
        {(group, kind): 2 for group in range(GROUPS) for kind in KINDS}
    )
    assert FIRST_SEED >= 1000 and GROUPS >= 5
    again = [task for group in range(GROUPS) for task in edit_tasks(FIRST_SEED + group, 12, KINDS)]
    assert [case.task for case in stickers] == again
    assert all(case.given.target == case.task.target_prompt for case in stickers)


@pytest.mark.parametrize("tasks", [0, 29, 31, -30, 30.0, True])
def test_tasks_that_do_not_divide_are_refused(tasks):
    with pytest.raises(ValueError, match=r"multiple of 30.*got"):
        sticker_cases(tasks)


def test_slow_editors_get_one_of_each_kind_in_each_group(stickers):
    chosen = [stickers[i] for i in part(stickers)]
    assert Counter((case.group, case.kind) for case in chosen) == Counter(
        (group, kind) for group in range(GROUPS) for kind in KINDS
    )
    assert part(sticker_cases(30)) == list(range(30))


def test_noises_differ_by_case_and_by_nothing_else():
    first = [torch.randn(9, generator=each) for each in generators(4)]
    again = []
    for number, each in enumerate(generators(4)):  # whatever an editor drew before
        again.append(torch.randn(9, generator=each))
        torch.randn(1000 * number, generator=each)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(not torch.equal(first[i], first[j]) for i in range(4) for j in range(i))


def test_slow_and_fast_editors_meet_the_same_noise(tiny, stickers, monkeypatch):
    drawn = {True: {}, False: {}}
    cases = [replace(case, task=None) for case in stickers]

    def editor(slow):
        def edit(model, given, settings, generator):
            drawn[slow][id(given)] = torch.randn(5, generator=generator)
            return given.picture

        return Editor("draws", edit, 1, slow=slow)

    monkeypatch.setattr(frame, "APART", 64)
    for slow in (True, False):
        measure(editor(slow), tiny, cases, QUICK)
    assert len(drawn[True]) == 30 and len(drawn[False]) == 60
    assert all(torch.equal(noise, drawn[False][key]) for key, noise in drawn[True].items())


def shameless(stickers, of):
    """An editor that has seen the truth."""
    known = {id(case.given): as_tensor([getattr(case.task, of)()]) for case in stickers}
    return Editor(of, lambda model, given, settings, generator: known[id(given)], 1)


def test_scores_know_the_truth(tiny, stickers):
    recogniser = Recogniser.load()
    right = measure(shameless(stickers, "target_image"), tiny, stickers, STICKERS, recogniser)
    idle = measure(shameless(stickers, "source_image"), tiny, stickers, STICKERS, recogniser)
    assert sum(found.success for found in right) >= 57 and not any(found.success for found in idle)
    assert {found.target for found in right} == {60.0} and max(found.target for found in idle) < 60
    for case, found, other in zip(stickers, idle, right, strict=True):
        assert found.kept == (None if case.kind == "style" else 60.0)
        assert found.calls == found.rows == 0 <= found.seconds
        assert other.kept is None or other.kept > 30


def test_without_the_truth_only_what_is_kept_is_told(tiny, cases):
    half = tiny.image_size // 2

    def spoil(model, given, settings, generator):
        picture = given.picture.clone()
        picture[..., :half] = 1  # within the mask
        picture[..., half:] -= 0.2 * picture[..., half:].sign()
        return picture

    cases[1] = replace(cases[1], given=replace(cases[1].given, mask=None))
    masked, bare = measure(Editor("spoil", spoil, 1), tiny, cases, QUICK)
    assert (masked.success, masked.target) == (None, None)
    assert masked.kept == pytest.approx(20, abs=0.01)  # 0.1 of a range of 1
    assert (bare.success, bare.kept, bare.target) == (None, None, None)


def test_results_are_shown_by_number(tiny, cases):
    shown = {}
    editor = Editor("same", lambda model, given, settings, generator: given.picture, 1)
    measure(editor, tiny, cases, QUICK, show=shown.__setitem__)
    assert all(torch.equal(shown[i], case.given.picture) for i, case in enumerate(cases))


def test_a_model_trained_anew_has_another_fingerprint(build):
    one, other = build(), build()
    assert frame.fingerprint(one) == frame.fingerprint(other)
    with torch.no_grad():
        other.unet.conv_in.weight[0, 0, 0, 0] += 1e-3
    assert frame.fingerprint(one) != frame.fingerprint(other)
