"""Edit tasks: what they ask, what may change, the true result."""

import numpy as np
import pytest

from course.world import EDITS, edit_tasks
from course.world.vocabulary import WORDS


@pytest.fixture(scope="module")
def tasks():
    return edit_tasks(1000, 140)


def test_every_kind_of_edit_in_turn(tasks):
    assert [task.kind for task in tasks[:7]] == list(EDITS)
    assert edit_tasks(1000, 3) == tasks[:3]


def test_nothing_changes_outside_the_mask(tasks):
    for task in tasks:
        outside = ~task.mask()
        assert np.array_equal(task.source_image()[outside], task.target_image()[outside]), task


def test_something_changes_inside(tasks):
    for task in tasks:
        changed = (task.source_image() != task.target_image()).any(-1)
        assert changed.sum() > 30, task
        assert task.source_prompt != task.target_prompt or task.kind == "move"


def test_the_mask_is_not_much_larger_than_the_change(tasks):
    for task in tasks:
        if task.kind in ("recolour", "swap", "add", "remove"):
            changed = (task.source_image() != task.target_image()).any(-1)
            assert task.mask().sum() < 2.5 * changed.sum() + 60, task


def test_instructions_name_what_they_change(tasks):
    for task in tasks:
        assert set(task.instruction.split()) <= set(WORDS)
        assert set(task.target_prompt.split()) <= set(WORDS)
    by_kind = {task.kind: task for task in tasks}
    assert by_kind["recolour"].target.background == by_kind["recolour"].source.background
    assert len(by_kind["add"].target.stickers) == len(by_kind["add"].source.stickers) + 1
    assert len(by_kind["remove"].target.stickers) == len(by_kind["remove"].source.stickers) - 1


def test_an_unknown_kind_of_edit_is_refused():
    with pytest.raises(ValueError, match="recolour"):
        edit_tasks(1000, 1, ("rotate",))
