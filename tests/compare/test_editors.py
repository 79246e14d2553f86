"""The editors: they ask as often as they should, leave the model as it was, and agree where they must."""

from dataclasses import replace

import pytest
import torch

from course.attention.instruct_pix2pix import widen
from course.compare.by_attention import instructed_by
from course.compare.editor import PAPERS, STICKERS, Editor, Given, Settings
from course.compare.editors import EDITORS
from course.compare.measure import counted, lacking, measure
from course.core.model import Model
from course.core.sampling import invert, last, sample
from tests.compare.conftest import QUICK

BY_NAME = {editor.name: editor for editor in EDITORS}
# Of four steps: calls of the U-Net, and their rows. Where a search stops by itself, bounds.
ASKED = {
    "nothing (autoencoder)": (0, 0),
    "drawn anew": (4, 8),
    "SDEdit 0.4": (2, 4),
    "SDEdit 0.6": (3, 6),
    "SDEdit 0.8": (4, 8),
    "Blended Diffusion": (4, 8),
    "DDIB": (4 + 4, 8),
    "DDIM inversion": (4 + 4, 4 + 8),
    "DiffEdit": (2 * 10 + 4 + 4, 20 + 4 + 8),
    "Imagic": (2 + 3 + 4, 5 + 8),
    "negative prompt": (4 + 4, 4 + 8),
    "P2P, negative prompt": (4 + 4, 4 + 16),
    "Plug-and-Play": (4 + 3 + 4, 4 + 3 + 8),  # of four steps, round(0.8 * 4) look at the guide
    "InstructPix2Pix": (4, 12),
    "InstructPix2Pix, true pairs": (4, 12),
}
SEARCHING = {"null-text": (4, 8), "P2P, null-text": (4, 16)}  # calls and rows of the walk that edits


def asked(editor: Editor, tiny: Model, given: Given) -> tuple[int, int, torch.Tensor]:
    model = replace(tiny, unet=widen(tiny.unet)) if "instruction" in editor.needs else tiny
    with counted(model.unet) as rows:
        picture = editor.edit(model, given, QUICK, torch.Generator().manual_seed(1))
    return len(rows), sum(rows), picture


def test_every_editor_is_counted_here():
    assert set(ASKED) | set(SEARCHING) == set(BY_NAME) and len(BY_NAME) == len(EDITORS)
    assert {editor.chapter for editor in EDITORS} == {None, 1, 2, 3, 4}


@pytest.mark.parametrize("name", ASKED)
def test_calls_and_rows(name, tiny, cases):
    calls, rows, picture = asked(BY_NAME[name], tiny, cases[0].given)
    assert (calls, rows) == ASKED[name]
    assert picture.shape == cases[0].given.picture.shape and picture.isfinite().all()


@pytest.mark.parametrize("name", SEARCHING)
def test_calls_and_rows_of_a_search(name, tiny, cases):
    calls, rows, _ = asked(BY_NAME[name], tiny, cases[0].given)
    walk, its_rows = SEARCHING[name]
    tries = calls - walk - 4 - 4 * 2  # up; each step asks the prompt, tries, and steps
    assert 4 <= tries <= 4 * 10
    assert rows == calls - walk + its_rows


@pytest.mark.parametrize("editor", EDITORS, ids=lambda editor: editor.name)
def test_the_model_is_as_it_was_and_the_picture_too(editor, tiny, cases):
    before = {name: value.clone() for name, value in tiny.unet.state_dict().items()}
    processors, given = dict(tiny.unet.attn_processors), cases[0].given
    picture = given.picture.clone()
    asked(editor, tiny, given)
    assert all(torch.equal(before[name], value) for name, value in tiny.unet.state_dict().items())
    assert all(processors[name] is now for name, now in tiny.unet.attn_processors.items())
    modules = list(tiny.unet.modules())
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in modules)
    assert not any(weight.requires_grad or weight.grad is not None for weight in tiny.unet.parameters())
    assert torch.equal(picture, given.picture)


@pytest.mark.parametrize("editor", EDITORS, ids=lambda editor: editor.name)
def test_an_editor_reads_what_it_says_and_nothing_else(editor, tiny, cases):
    given, other = cases[0].given, torch.zeros_like(cases[0].given.mask)
    other[..., :3] = 1
    changed = {"source": "a dog", "target": "a cat", "mask": other, "instruction": "a photo of a cat"}
    unread = {name: value for name, value in changed.items() if name not in editor.needs}
    plain = asked(editor, tiny, given)[2]
    assert torch.equal(plain, asked(editor, tiny, replace(given, **unread))[2])
    for name in editor.needs:
        assert not torch.equal(plain, asked(editor, tiny, replace(given, **{name: changed[name]}))[2]), name


@pytest.mark.parametrize("name", ["negative prompt", "P2P, negative prompt"])
def test_no_change_of_prompt_leads_back_along_the_inversion(name, tiny, cases):
    given = replace(cases[0].given, target=cases[0].given.source)
    plain, walk = tiny.denoiser(given.source, guidance_scale=1), (tiny.schedule.times(4), tiny.schedule)
    back = tiny.decode(last(sample(plain, last(invert(plain, tiny.encode(given.picture), *walk)), *walk)))
    assert torch.allclose(asked(BY_NAME[name], tiny, given)[2], back, atol=1e-4)


def test_blending_keeps_the_latents_outside(tiny, cases):
    kept = []
    watched = replace(tiny)
    object.__setattr__(watched, "decode", lambda latents: kept.append(latents) or tiny.decode(latents))
    BY_NAME["Blended Diffusion"].edit(watched, cases[0].given, QUICK, torch.Generator().manual_seed(0))
    half = tiny.latent_shape[2] // 2
    moved = (kept[0] - tiny.encode(cases[0].given.picture)).abs()
    assert moved[..., half:].max() == 0 < moved[..., :half].min()


def test_prompts_of_unlike_length_are_refined(tiny, cases):
    longer = replace(cases[0].given, target="a photo of a blue car on snow")
    assert asked(BY_NAME["P2P, negative prompt"], tiny, longer)[:2] == ASKED["P2P, negative prompt"]


def test_who_lacks_something_is_told_what(cases):
    bare = [replace(case, given=replace(case.given, mask=None, instruction=None)) for case in cases]
    told = {editor.name: lacking(editor, bare) for editor in EDITORS}
    without = {name for name, why in told.items() if why}
    assert without == {"Blended Diffusion", "InstructPix2Pix", "InstructPix2Pix, true pairs"}
    assert "mask" in told["Blended Diffusion"] and "instruction" in told["InstructPix2Pix"]
    assert not any(lacking(editor, [bare[0], cases[1]]) for editor in EDITORS)


def test_an_editor_gets_only_the_cases_that_have_what_it_needs(tiny, cases):
    some = [replace(cases[0], given=replace(cases[0].given, mask=None)), cases[1]]
    assert [found.case for found in measure(BY_NAME["Blended Diffusion"], tiny, some, QUICK)] == [1]
    assert [found.case for found in measure(BY_NAME["DDIB"], tiny, some, QUICK)] == [0, 1]


def test_instructions_have_weights_for_the_sticker_model_only(tiny):
    for pairs in ("drawn", "true"):
        with pytest.raises(FileNotFoundError):
            instructed_by(pairs)(tiny)


def test_settings():
    assert PAPERS.steps == 50 and PAPERS.scale == 7.5 and not PAPERS.imagic
    assert STICKERS.steps < 50
    for steps in (1, 0, 2.5, True):
        with pytest.raises(ValueError, match="2 or more"):
            Settings(steps)
