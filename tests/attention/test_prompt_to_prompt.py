"""Prompt-to-Prompt: exact for a network whose picture is A V, the same as the authors' code, and refusals."""

from copy import deepcopy
from dataclasses import replace as changed
from itertools import pairwise

import pytest
import torch
from diffusers.models.attention_processor import Attention
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from course.attention.local_blend import LocalBlend, region
from course.attention.prompt_to_prompt import (
    Edit,
    prompt_to_prompt,
    prompt_to_prompt_steps,
    refine,
    replace,
    reweight,
)
from course.core.attention import controlled, recorded
from course.core.guidance import classifier_free
from course.core.sampling import last, sample
from course.core.words import token_positions
from tests.attention.conftest import sd_shaped, texts
from tests.attention.parity_p2p import Controller, run
from tests.core.test_words import byte_pair, official_replacement, word_level

relaxed = settings(deadline=None, max_examples=50)
WORDS = word_level()  # 24 positions; "car's" takes three of them
SWAP = ("a red cat on grass", "a red dog on grass")


# The edits, by hand.


def test_a_swap_hands_over_every_map_and_makes_none():
    edit = replace(WORDS, "a cat on grass", "a car's on grass")
    assert_close(edit.mapper.sum(1), torch.ones(24))
    assert edit.mapper[2, 2:5].tolist() == pytest.approx([1 / 3] * 3)
    assert edit.mapper[3, 5] == edit.mapper[4, 6] == 1
    assert edit.kept.all() and (edit.factors == 1).all()


@pytest.mark.parametrize(
    "prompts",
    [
        SWAP,
        ("a cat on grass", "a car's on grass"),
        ("a car's on grass", "a dog on grass"),
        ("a cat", "a cat"),
    ],
)
def test_compat_reproduces_the_authors_mapper_with_its_error(prompts):
    old, new = (
        [
            token_positions(WORDS, prompt, word)
            for word, other in zip(prompt.split(), peer.split(), strict=True)
            if word != other
        ]
        for prompt, peer in (prompts, prompts[::-1])
    )
    found = replace(WORDS, *prompts, compat="official").mapper
    assert torch.equal(found, official_replacement(old, new, 24, quirk=True))
    same_tokens = [len(a) == len(b) for a, b in zip(old, new, strict=True)]
    assert torch.equal(found, replace(WORDS, *prompts).mapper) == all(same_tokens)


def test_it_is_so_for_a_byte_pair_tokenizer():
    tokenizer = byte_pair()
    new = token_positions(tokenizer, "a dog on", "dog")
    old = token_positions(tokenizer, "a cat on", "cat")
    found = replace(tokenizer, "a cat on", "a dog on", compat="official").mapper
    assert len(old) != len(new)
    assert torch.equal(found, official_replacement([old], [new], 77, quirk=True))


def test_a_refinement_keeps_the_map_of_each_common_token():
    edit = refine(WORDS, "a cat on grass", "a red cat on blue grass")
    assert edit.kept[:8].tolist() == [1, 1, 0, 1, 1, 0, 1, 1]
    source = torch.rand(24)
    assert torch.equal((source @ edit.mapper)[[1, 3, 4, 6]], source[[1, 2, 3, 4]])


def test_reweighting_multiplies_and_may_be_repeated():
    edit = replace(WORDS, *SWAP)
    factors = reweight(reweight(edit, {"red": 3.0, "dog": -1.0}), {"red": 0.5}).factors
    assert factors[2] == 1.5 and factors[3] == -1 and (edit.factors == 1).all()
    assert (factors != 1).sum() == 2


# The oracle: a network that draws attention times values, so that one knows what comes of whose attention.


class Painter(nn.Module):
    """eps of data whose mean is A V. A token's first numbers say which of `places` x `places` attends to it,
    its last one what stands there. One cross-attention layer, set by hand; no other weights."""

    def __init__(self, schedule, places=4, std=0.0):
        super().__init__()
        self.schedule, self.places, self.std, queries = schedule, places, std, places**2
        attn = Attention(queries, queries + 1, heads=1, dim_head=queries, bias=False, scale_qk=False)
        attn.double().requires_grad_(False)
        eye = torch.eye(queries, dtype=torch.float64)
        attn.to_q.weight[:], attn.to_k.weight[:] = 80 * eye, widened(eye)
        attn.to_v.weight[:], attn.to_v.weight[0, -1] = 0, 1
        attn.to_out[0].weight[:], attn.to_out[0].bias[:] = eye, 0
        self.block = nn.ModuleDict({"attn2": attn})

    @property
    def attn_processors(self):
        return {"block.attn2.processor": self.block["attn2"].processor}

    def set_attn_processor(self, processors):
        self.block["attn2"].processor = processors["block.attn2.processor"]

    def forward(self, x_t, timestep, text):
        grid = torch.eye(self.places**2, dtype=x_t.dtype).expand(len(x_t), -1, -1)
        mean = self.block["attn2"](grid, encoder_hidden_states=text)[..., 0]
        mean = mean.unflatten(1, (1, self.places, self.places))
        a, n = self.schedule.signal(timestep), self.schedule.noise(timestep)
        return n * (x_t - a * mean) / ((a * self.std) ** 2 + n * n)


def widened(eye):
    return torch.cat([eye, torch.zeros(len(eye), 1, dtype=eye.dtype)], 1)


def told(prompt, where, what):
    """Text [1 24 17] in which the words attend where and show what they are told; all else is nothing."""
    text = torch.zeros(1, 24, 17, dtype=torch.float64)
    text[0, 0, :16] = 0.5  # where no word attends, the start token does, and shows 0
    for word, places in where.items():
        for position in token_positions(WORDS, prompt, word):
            text[0, position, list(places)] = 1.0
            text[0, position, -1] = what[word]
    return text


LEFT, RIGHT, ALL = (0, 4, 8, 12), (3, 7, 11, 15), range(16)
SOURCE = told(SWAP[0], {"cat": LEFT}, {"cat": 1.0})
TARGET = told(SWAP[1], {"dog": RIGHT}, {"dog": -2.0})


def painted(painter, source, target, edit, times, scale=1.0, **options):
    null = torch.zeros(1, 24, 17, dtype=torch.float64)
    denoise = classifier_free(painter, torch.cat([source, target]), null, scale)
    x_T = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    options = {"self_attention": 0.0, "cross": 1.0} | options
    return prompt_to_prompt(painter, denoise, x_T, edit, times, painter.schedule, **options)


def column(places, value):
    picture = torch.zeros(16, dtype=torch.float64)
    picture[list(places)] = value
    return picture.view(1, 1, 4, 4)


@pytest.fixture(scope="module")
def exact(sd15):
    return changed(sd15, final_alpha_bar=1.0)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_swapped_word_shows_its_own_value_where_the_old_word_stood(exact, scale):
    """Guided or not: the null draws nothing, so the scale multiplies the picture."""
    painter, times, edit = Painter(exact), exact.times(5), replace(WORDS, *SWAP)
    source, target = painted(painter, SOURCE, TARGET, edit, times, scale).split(1)
    assert_close(source, scale * column(LEFT, 1.0), atol=1e-6, rtol=0)
    assert_close(target, scale * column(LEFT, -2.0), atol=1e-6, rtol=0)
    _, prompted = painted(painter, SOURCE, TARGET, edit, times, scale, cross=0.0).split(1)
    assert_close(prompted, scale * column(RIGHT, -2.0), atol=1e-6, rtol=0)


def test_a_walk_with_memory_ends_between_the_two_in_the_known_proportion(exact):
    """Where data vary by s, w = s a / sqrt(a^2 s^2 + n^2) is left of the mean that ruled down to a time.

    The first time already lets some signal through, which the noise we start from does not have: w less that.
    """
    std, steps = 0.5, 400
    painter, times, edit = Painter(exact, std=std), exact.times(steps), replace(WORDS, *SWAP)
    ends = {
        share: painted(painter, SOURCE, TARGET, edit, times, cross=share)[1:]
        for share in (0.0, 0.5, 0.9, 1.0)
    }

    def left(t):
        a, n = exact.signal(t), exact.noise(t)
        return std * a / (a * a * std * std + n * n) ** 0.5

    weights = [
        (left(times[int(share * (steps + 1))]) - left(times[0])) / (1 - left(times[0]))
        for share in (0.5, 0.9)
    ]
    assert 0.03 < weights[0] < weights[1] < 0.97
    for share, weight in zip((0.5, 0.9), weights, strict=True):
        expected = ends[0.0] + weight * (ends[1.0] - ends[0.0])
        assert_close(ends[share], expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("factor", [0.0, 2.0, -1.0])
def test_a_factor_multiplies_what_the_word_shows(exact, factor):
    same = replace(WORDS, SWAP[0], SWAP[0])
    source, target = painted(
        Painter(exact), SOURCE, SOURCE, reweight(same, {"cat": factor}), exact.times(5)
    ).split(1)
    assert_close(target, factor * source, atol=1e-6, rtol=0)


def test_a_refinement_leaves_common_words_in_their_place_and_new_ones_to_the_model(exact):
    prompts = ("a cat on grass", "a red cat on grass")
    source = told(prompts[0], {"cat": LEFT}, {"cat": 1.0})
    target = told(prompts[1], {"cat": RIGHT, "red": (1, 2)}, {"cat": 1.0, "red": 5.0})
    _, found = painted(Painter(exact), source, target, refine(WORDS, *prompts), exact.times(5)).split(1)
    assert_close(found, column(LEFT, 1.0) + column((1, 2), 5.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("size", "subtract"), [(4, False), (4, True)])
def test_local_blend_is_the_union_of_both_words_places(exact, size, subtract):
    """The background's word says other things in the two prompts; only where cat and dog are may it show."""
    both = "a cat on grass", "a dog on grass"
    source = told(both[0], {"cat": (0,), "grass": ALL}, {"cat": 1.0, "grass": 0.5})
    target = told(both[1], {"dog": (15,), "grass": ALL}, {"dog": -2.0, "grass": -0.5})
    without = {"subtract": (both[0].split()[1:2], "dog")} if subtract else {}
    blend = LocalBlend(("cat", "dog"), size=size, start=0.0, **without)
    given = (Painter(exact), source, target, replace(WORDS, *both), exact.times(5))
    plain = painted(*given, cross=0.0)
    found = painted(*given, cross=0.0, local_blend=blend)
    assert torch.equal(found[0], plain[0])
    inside = torch.zeros(4, 4, dtype=torch.bool)
    inside[:2, :2], inside[2:, 2:] = True, True  # each word's place, wider by one
    if subtract:  # without pooling
        inside[0, 0] = inside[3, 3] = False
    assert_close(found[1, 0][inside], plain[1, 0][inside])
    assert_close(found[1, 0][~inside], plain[0, 0][~inside])


def test_a_region_is_what_exceeds_a_share_of_each_maps_own_maximum():
    heat = torch.zeros(2, 4, 4)
    heat[0, 0, 0], heat[0, 0, 2], heat[1, 3, 3] = 1.0, 0.29, 100.0
    found = region(heat, (8, 8), 0.3, widen=False)
    assert found.shape == (1, 1, 8, 8) and found.sum() == 8 and found[0, 0, :2, :2].all()
    assert found[0, 0, 6:, 6:].all()
    assert region(heat, (4, 4), 0.28, widen=False).sum() == 3
    assert region(heat, (4, 4), 0.3, widen=True).sum() == 8


# The peer: the authors' code, on the tiny network.


@pytest.fixture(scope="module")
def drawn():
    draws = torch.Generator().manual_seed(2)
    return 3 * torch.randn(2, 24, 16, generator=draws), torch.randn(1, 24, 16, generator=draws)


MAPPED = ("a red cat on grass", "a red car's on grass")
GROWN = ("a cat on grass", "a red cat on blue grass")


def both(tiny, drawn, edit, controller, scale=7.5, **options):
    """Largest difference of latents: ours to the authors', and our edit to re-prompting."""
    text, null = drawn
    x_T = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    theirs = run(tiny.unet, tiny.scheduler_config, x_T, text, null, scale, controller)
    times = tiny.schedule.times(controller.steps)
    denoise = classifier_free(tiny.predict, text, null, scale)
    ours = prompt_to_prompt(tiny.unet, denoise, x_T, edit, times, tiny.schedule, **options)
    plain = last(sample(denoise, torch.cat([x_T, x_T]), times, tiny.schedule))
    return float((ours - theirs).abs().max()), float((ours[1] - plain[1]).abs().max())


@pytest.mark.parametrize(
    ("cross", "self_share", "largest", "steps"),
    [(0.8, 0.4, 256, 10), (0.5, 0.2, 256, 7), (1.0, 1.0, 16, 5), (0.0, 0.6, 256, 5), (0.3, 0.0, 256, 10)],
)
def test_parity_of_a_swap(tiny, drawn, cross, self_share, largest, steps):
    edit = replace(WORDS, *MAPPED, compat="official")
    controller = Controller(
        steps, 0, 24, mapper=edit.mapper, cross={None: cross}, self_share=self_share, largest=largest
    )
    options = {"cross": cross, "self_attention": self_share, "max_tokens": largest}
    gap, moved = both(tiny, drawn, edit, controller, **options)
    assert gap <= 1e-4 < 0.01 < moved


def test_the_right_mapper_gives_something_else_than_the_authors(tiny, drawn):
    official = replace(WORDS, *MAPPED, compat="official")
    controller = Controller(5, 0, 24, mapper=official.mapper)
    assert both(tiny, drawn, replace(WORDS, *MAPPED), controller)[0] > 0.01


@pytest.mark.parametrize("factors", [{}, {"red": 5.0, "grass": -1.0}])
def test_parity_of_a_refinement_with_and_without_factors(tiny, drawn, factors):
    edit = reweight(refine(WORDS, *GROWN), factors)
    # a token's partner, as the authors' alignment says it; padding takes its own position
    partner = torch.arange(24)
    partner[:8] = torch.tensor([0, 1, -1, 2, 3, -1, 4, 5])
    kept = (partner >= 0).float()
    weights = torch.ones(24)
    for word, factor in factors.items():
        weights[token_positions(WORDS, GROWN[1], word)] = factor
    controller = Controller(10, 0, 24, alignment=(partner, kept), factors=weights)
    gap, moved = both(tiny, drawn, edit, controller)
    assert gap <= 1e-4 < 0.01 < moved


def test_parity_of_a_schedule_by_words(tiny, drawn):
    edit, places = replace(WORDS, *MAPPED), token_positions(WORDS, MAPPED[1], "car's")
    shares = {None: 0.9} | dict.fromkeys(places, 0.2)
    controller = Controller(10, 0, 24, mapper=edit.mapper, cross=shares)
    gap, _ = both(tiny, drawn, edit, controller, cross={"default_": 0.9, "car's": 0.2})
    assert gap <= 1e-4
    assert both(tiny, drawn, edit, controller_anew(controller), cross=0.9)[0] > 0.01


def controller_anew(controller):
    return Controller(10, 0, 24, mapper=controller.mapper, cross=controller.cross)


@pytest.mark.parametrize(("side", "start"), [(8, 0.2), (4, 0.0)])
@pytest.mark.parametrize("subtract", [None, ("grass", "on")])
def test_parity_of_the_local_blend(tiny, drawn, side, start, subtract):
    edit = replace(WORDS, *MAPPED)
    threshold = 0.9 if side == 8 else 0.95  # random maps are nearly even: at 0.3 all would be inside
    places = [[3], token_positions(WORDS, MAPPED[1], "car's")]
    told = {"words": places, "side": side, "start": start, "threshold": threshold}
    if subtract:
        told["subtract"] = [token_positions(WORDS, *pair) for pair in zip(MAPPED, subtract, strict=True)]
    controller = Controller(10, 0, 24, mapper=edit.mapper, blend=told)
    blend = LocalBlend(("cat", "car's"), subtract, side, threshold, start)
    gap, _ = both(tiny, drawn, edit, controller, local_blend=blend)
    assert gap <= 1e-4
    assert both(tiny, drawn, edit, Controller(10, 0, 24, mapper=edit.mapper), local_blend=blend)[0] > 0.01


# Invariants.


def walk_of(model, scale, prompts, rows=1, steps=5):
    x_T = torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    denoise = model.denoiser([each for each in prompts for _ in range(rows)], guidance_scale=scale)
    return model.unet, denoise, x_T, model.schedule.times(steps), model.schedule


def edited(model, scale, edit, prompts=SWAP, rows=1, **options):
    unet, denoise, x_T, times, schedule = walk_of(model, scale, prompts, rows)
    return prompt_to_prompt(unet, denoise, x_T, edit, times, schedule, **options)


def plain(model, scale, prompts=SWAP, rows=1):
    _, denoise, x_T, times, schedule = walk_of(model, scale, prompts, rows)
    return last(sample(denoise, torch.cat([x_T, x_T]), times, schedule))


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_the_source_is_what_it_would_be_alone(tiny, scale):
    """To the last bit of a walk whose cross-attention is looked at, and up to rounding of a plain one."""
    edit = reweight(replace(tiny.tokenizer, *SWAP), {"dog": 4.0})
    found = edited(tiny, scale, edit, cross=1.0, self_attention=1.0)
    with controlled(tiny.unet, lambda probs, site, t: probs, lambda site: site.kind == "cross"):
        seen = plain(tiny, scale)
    assert torch.equal(found[0], seen[0])
    assert_close(found[0], plain(tiny, scale)[0], atol=1e-4, rtol=0)
    assert (found[1] - seen[1]).abs().max() > 0.01


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_no_share_is_the_plain_walk_to_the_last_bit(tiny, scale):
    edit = replace(tiny.tokenizer, *SWAP)
    assert torch.equal(edited(tiny, scale, edit, cross=0.0, self_attention=0.0), plain(tiny, scale))


@pytest.mark.parametrize("make", [replace, refine])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_equal_prompts_give_equal_pictures(tiny, make, scale):
    same = SWAP[0], SWAP[0]
    source, target = edited(tiny, scale, make(tiny.tokenizer, *same), same)
    assert_close(source, target, atol=1e-5, rtol=0)


def test_the_text_that_is_left_without_attention_has_no_say(tiny):
    """With all maps the source's and the factors 0, what the target's words are makes no difference."""
    silent = {word: 0.0 for word in ("a", "red", "dog", "on", "grass")}
    edit = reweight(replace(tiny.tokenizer, *SWAP), silent)
    ends = torch.zeros_like(edit.factors)
    edit = changed(edit, factors=ends)  # the start, the end and the padding, too
    one = edited(tiny, 1.0, edit, cross=1.0, self_attention=0.0)
    other = edited(tiny, 1.0, edit, (SWAP[0], "snow of a blue car"), cross=1.0, self_attention=0.0)
    assert torch.equal(one, other)


def test_each_pair_is_edited_as_it_would_be_alone(tiny):
    pairs = [SWAP, ("a blue car on snow", "a red car on snow")]
    edits = [replace(tiny.tokenizer, *pairs[0]), reweight(replace(tiny.tokenizer, *pairs[1]), {"red": 2.0})]
    blends = [LocalBlend(("cat", "dog"), size=8, threshold=0.9), LocalBlend(("car", "car"), size=4)]
    prompts = [pair[k] for k in (0, 1) for pair in pairs]
    x_T = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    times, schedule = tiny.schedule.times(5), tiny.schedule
    options = {"cross": 0.6, "self_attention": 0.4}
    walk = (times, schedule)
    found = prompt_to_prompt(
        tiny.unet, tiny.denoiser(prompts), x_T, edits, *walk, **options, local_blend=blends
    )
    for row, pair in enumerate(pairs):
        denoise = tiny.denoiser(list(pair))
        given = (tiny.unet, denoise, x_T[row : row + 1], edits[row], *walk)
        alone = prompt_to_prompt(*given, **options, local_blend=blends[row])
        assert_close(found[[row, 2 + row]], alone, atol=1e-4, rtol=0)


def test_the_steps_are_counted_as_the_authors_count_them(tiny):
    """Seen from outside: processors that control, queries that are rewritten."""
    unet, denoise, x_T, times, schedule = walk_of(tiny, 5.0, SWAP, steps=10)
    edit, calls = replace(tiny.tokenizer, *SWAP), []

    def counted(x_t, t):
        cross = {name.split(".")[-2] for name, p in unet.attn_processors.items() if "Controlled" in repr(p)}
        hooked = {name.split(".")[-2] for name, module in unet.named_modules() if module._forward_hooks}
        calls.append((cross == {"attn2"}, hooked == {"attn1"}))
        assert cross <= {"attn2"} and hooked <= {"attn1"}
        return denoise(x_t, t)

    prompt_to_prompt(unet, counted, x_T, edit, times, schedule, cross=0.6, self_attention=0.35)
    assert calls == [(i < 6, i < 3) for i in range(10)]
    calls.clear()
    prompt_to_prompt(unet, counted, x_T, edit, times, schedule, cross=1.0, self_attention=1.0)
    assert calls == [(True, True)] * 10


def test_the_network_is_as_it_was_between_the_steps_and_after_an_error(tiny):
    before = dict(tiny.unet.attn_processors)
    unet, denoise, x_T, times, schedule = walk_of(tiny, 5.0, SWAP)
    edit = replace(tiny.tokenizer, *SWAP)
    steps = prompt_to_prompt_steps(unet, denoise, x_T, edit, times, schedule)
    for one, other in pairwise(steps):
        assert unet.attn_processors == before and torch.equal(one.x_s, other.x_t)

    def broken(x_t, t):
        denoise(x_t, t)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        prompt_to_prompt(unet, broken, x_T, edit, times, schedule)
    assert unet.attn_processors == before and not unet._forward_pre_hooks


# Stable Diffusion's shape: text of 77 tokens, 64 queries at the middle and 1,024 at the top here.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_on_stable_diffusion_s_shape(dtype, scale):
    model, text = sd_shaped(dtype), texts(3, dtype)
    edit = reweight(replace(byte_pair(), "a cat on", "a dog on"), {"dog": 2.0})
    denoise = classifier_free(model.predict, torch.cat(text[:2]), text[2], scale)
    x_T, times = model.noise(1, torch.Generator().manual_seed(0)), model.schedule.times(4)
    blend = LocalBlend(("cat", "dog"), size=8, threshold=0.9)
    found = prompt_to_prompt(model.unet, denoise, x_T, edit, times, model.schedule, local_blend=blend)
    assert found.shape == (2, *x_T.shape[1:]) and found.dtype == dtype and found.isfinite().all()
    assert (found[0] - found[1]).abs().max() > 0.01


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_the_targets_self_attention_is_the_sources_at_sites_that_are_small_enough(tiny, scale):
    unet, denoise, x_T, times, schedule = walk_of(tiny, scale, SWAP, steps=2)
    seen = {}

    def watched(x_t, t):
        with recorded(unet, lambda site: site.kind == "self", heads=True) as store:
            answer = denoise(x_t, t)
        seen.update({site: maps[-1] for site, maps in store.maps.items()})
        return answer

    edit = replace(tiny.tokenizer, *SWAP)
    walk = (unet, watched, x_T, edit, times, schedule)
    prompt_to_prompt(*walk, cross=0.0, self_attention=1.0, max_tokens=16)
    queries = {maps.shape[-2] for maps in seen.values()}
    assert min(queries) <= 16 < max(queries)
    for maps in seen.values():
        source, target = maps[-2:]
        assert torch.equal(source, target) == (maps.shape[-2] <= 16)
    if scale != 1:
        assert any(not torch.equal(maps[0], maps[1]) for maps in seen.values()), "null rows keep their own"


def test_no_map_of_self_attention_is_made(monkeypatch):
    """At 4,096 queries those of 4 rows would take 2 GB."""
    model, text = sd_shaped(), texts(3)
    largest = []
    softmax = torch.Tensor.softmax

    def watched(scores, *args, **kwargs):
        largest.append(tuple(scores.shape[-2:]))
        return softmax(scores, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "softmax", watched)
    edit = replace(byte_pair(), "a cat on", "a dog on")
    denoise = classifier_free(model.predict, torch.cat(text[:2]), text[2], 7.5)
    x_T, times = model.noise(1, torch.Generator().manual_seed(0)), model.schedule.times(2)
    blend = LocalBlend(("cat", "dog"), size=8, start=0.0)
    walk = (model.unet, denoise, x_T, edit, times, model.schedule)
    prompt_to_prompt(*walk, cross=1.0, self_attention=1.0, local_blend=blend)
    assert {keys for _, keys in largest} == {77} and (1024, 77) in largest
    largest.clear()
    prompt_to_prompt(*walk, cross=0.0, self_attention=1.0, max_tokens=4096)
    assert not largest


def test_self_attention_that_cannot_be_shared_is_refused(tiny):
    walk = walk_of(tiny, 5.0, SWAP, steps=2)
    with pytest.raises(ValueError, match="max_tokens=3 left out every chosen site; the smallest has"):
        prompt_to_prompt(*walk[:3], replace(tiny.tokenizer, *SWAP), *walk[3:], max_tokens=3, self_attention=1)
    fused = deepcopy(tiny.unet)  # what is fused once keeps more weights
    fused.fuse_qkv_projections()
    with pytest.raises(ValueError, match="fused projections cannot be reached: unfuse them first"):
        prompt_to_prompt(fused, *walk[1:3], replace(tiny.tokenizer, *SWAP), *walk[3:], self_attention=1)


# Bad input: refused at the door.


def never(x_t, t):
    raise AssertionError("the model was asked")


def refuse(tiny, match, edits=None, x_T=None, times=None, **options):
    edits = replace(tiny.tokenizer, *SWAP) if edits is None else edits
    x_T = torch.zeros(2, 4, 8, 8) if x_T is None else x_T
    times = tiny.schedule.times(5) if times is None else times
    with pytest.raises(ValueError, match=match):
        prompt_to_prompt_steps(tiny.unet, never, x_T, edits, times, tiny.schedule, **options)


@relaxed
@given(st.floats(allow_nan=True).filter(lambda share: not 0 <= share <= 1))
def test_shares_outside_their_range_are_refused(tiny, share):
    refuse(tiny, r"cross of 'default_' must be a share of the walk, in \[0, 1\]", cross=share)
    refuse(tiny, r"cross of 'dog' must be a share", cross={"dog": share})
    refuse(tiny, r"self_attention must be a share", self_attention=share)
    with pytest.raises(ValueError, match=r"start must be in \[0, 1\)"):
        LocalBlend(("cat", "dog"), start=share)
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\)"):
        LocalBlend(("cat", "dog"), threshold=share)


def test_other_bad_input_is_refused(tiny):
    edit = replace(tiny.tokenizer, *SWAP)
    refuse(tiny, "3 edits for 2 rows of x_T: give one for all, or one for each", [edit] * 3)
    refuse(tiny, "0 edits for 2 rows", [])
    refuse(tiny, "3 local blends for 2 rows", local_blend=[LocalBlend(("cat", "dog"))] * 3)
    refuse(tiny, "'cat' is not in the prompt, whose words are: a, red, dog", cross={"cat": 0.2})
    refuse(tiny, "'car' is not in the prompt", local_blend=LocalBlend(("cat", "car")))
    refuse(tiny, "times must be at least two and fall", times=[1, 500, -1])
    refuse(tiny, "x_T must be", x_T=torch.zeros(4, 8, 8))
    with pytest.raises(ValueError, match="'cat' is not in the prompt"):
        reweight(edit, {"cat": 2.0})
    with pytest.raises(ValueError, match="must be finite"):
        reweight(edit, {"dog": float("nan")})
    with pytest.raises(ValueError, match="compat must be one of"):
        replace(tiny.tokenizer, *SWAP, compat="diffusers")
    with pytest.raises(ValueError, match="a word swap needs as many words"):
        replace(tiny.tokenizer, "a cat", "a red cat")
    with pytest.raises(ValueError, match="words must be a pair"):
        LocalBlend("cat")
    with pytest.raises(ValueError, match="subtract must be a pair"):
        LocalBlend(("cat", "dog"), subtract="hat")


def test_what_does_not_fit_the_network_is_refused_when_it_is_asked(tiny):
    unet, denoise, x_T, times, schedule = walk_of(tiny, 5.0, SWAP)
    edit = replace(tiny.tokenizer, *SWAP)
    with pytest.raises(ValueError, match=r"edits are of prompts of 24 tokens, and the text .* has 12"):
        prompt_to_prompt(unet, denoise, x_T, replace(WORDS, *SWAP), times, schedule)
    one_row = tiny.denoiser(SWAP[0], guidance_scale=1.0)
    with pytest.raises(ValueError, match="1 rows are neither 2 texts"):
        prompt_to_prompt(unet, lambda x, t: one_row(x[:1], t), x_T, edit, times, schedule)
    with pytest.raises(ValueError, match="no cross-attention map of 5x5"):
        given = (unet, denoise, x_T, edit, times, schedule)
        prompt_to_prompt(*given, local_blend=LocalBlend(("cat", "dog"), size=5))
    with pytest.raises(ValueError, match="max_tokens=4 left out every chosen site"):
        prompt_to_prompt(unet, denoise, x_T, edit, times, schedule, max_tokens=4)
    assert isinstance(edit, Edit)
