"""Plug-and-Play: exact on a U-Net one can read, equal to its peers, and never silent about bad input."""

import weakref
from contextlib import ExitStack
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from course.attention.decoder import decoder, injected_modules, paper_layer
from course.attention.plug_and_play import plug_and_play, plug_and_play_steps
from course.core.attention import controlled
from course.core.guidance import classifier_free
from course.core.hooks import rewriting
from course.core.model import load
from course.core.sampling import ddim_step, invert, last, sample
from course.core.schedule import Schedule
from tests.attention.conftest import sd_shaped, texts

BOTH = {"feature_share": 1.0, "attention_share": 1.0}
NONE = {"feature_share": 0.0, "attention_share": 0.0}


# The oracle: a U-Net of one layer, in which feature, attention and text can be told apart.


class Legible(nn.Module):
    """eps = slope * x + text through a feature, plus attention to four places, plus the text beside both."""

    def __init__(self, slope=0.25, attends=0.0, beside=0.2):
        super().__init__()
        self.attends, self.beside = attends, beside
        conv2 = nn.Conv2d(1, 1, 1, bias=False)
        queries = {name: nn.Linear(1, 1, bias=False) for name in ("to_q", "to_k", "to_v")}
        attn1 = nn.Module()
        for name, module in queries.items():
            attn1.add_module(name, module)
        for module in (conv2, *queries.values()):
            nn.init.constant_(module.weight, slope if module is conv2 else 1.0)
        inner = SimpleNamespace(resnets=[SimpleNamespace(conv2=conv2)])
        inner.attentions = [SimpleNamespace(transformer_blocks=[SimpleNamespace(attn1=attn1)])]
        self.up_blocks = [inner]
        self.conv2, self.attn1 = conv2, attn1

    def forward(self, x, text):
        h = self.conv2(x + text)
        places = x.flatten(1)[..., None]
        weights = (self.attn1.to_q(places) @ self.attn1.to_k(places).mT).softmax(-1)
        mixed = (weights @ self.attn1.to_v(places)).view_as(x)
        return h + self.attends * mixed + self.beside * text


def legible(**weights):
    net = Legible(**weights).double().requires_grad_(False)

    def of(text, calls=None):
        def denoise(x, t):
            if calls is not None:
                calls.append(t)
            return net(x, torch.full_like(x, text))

        return denoise

    return net, of


def drawn(seed, *shape):
    shape = shape or (2, 1, 2, 2)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("share", "compat", "steps"),
    [
        (0.8, None, 40),
        (0.8, "pnp-diffusers", 40),
        (0.8, "plug-and-play", 41),
        (0.5, "plug-and-play", 26),
        (0.58, None, 29),
        (0.58, "pnp-diffusers", 28),
        (0.0, None, 0),
        (1.0, "plug-and-play", 50),
    ],
)
def test_the_first_steps_take_the_guides_feature_and_the_text_beside_it(sd15, share, compat, steps):
    net, of = legible()
    x_T, times = drawn(0), sd15.times(50)
    out = plug_and_play(
        net,
        of(1.5),
        of(0.0),
        x_T,
        times,
        sd15,
        feature_share=share,
        attention_share=0,
        features=[(1, 0)],
        compat=compat,
    )
    x = x_guide = x_T
    for i, (t, s) in enumerate(pairwise(times)):
        feature = 0.25 * x_guide if i < steps else 0.25 * (x + 1.5)
        x = ddim_step(sd15, x, feature + 0.2 * 1.5, t, s).x_s
        x_guide = ddim_step(sd15, x_guide, 0.25 * x_guide, t, s).x_s
    assert_close(out, x)


def test_with_queries_and_keys_the_target_attends_where_the_guide_does_to_values_of_its_own(sd15):
    net, of = legible(attends=0.5)
    x_T, times = drawn(0), sd15.times(10)
    walk = (x_T, times, sd15)
    out = plug_and_play(
        net, of(1.5), of(0.0), *walk, feature_share=0, attention_share=0.5, attention=[(1, 0)]
    )
    x = x_guide = x_T
    for i, (t, s) in enumerate(pairwise(times)):
        places, looks = x.flatten(1)[..., None], (x_guide if i < 5 else x).flatten(1)[..., None]
        mixed = ((looks @ looks.mT).softmax(-1) @ places).view_as(x)
        eps = 0.25 * (x + 1.5) + 0.5 * mixed + 0.2 * 1.5
        x = ddim_step(sd15, x, eps, t, s).x_s
        x_guide = ddim_step(sd15, x_guide, of(0.0)(x_guide, t), t, s).x_s
    assert_close(out, x)


def test_the_guide_is_asked_at_the_steps_that_inject_and_the_target_at_all(sd15):
    net, of = legible()
    asked, target, times = [], [], sd15.times(10)
    walk = (drawn(0), times, sd15)
    for shares in ((0.8, 0.5), (0.2, 0.5), (0.0, 0.0), (1.0, 1.0)):
        asked.clear(), target.clear()
        given = {"feature_share": shares[0], "attention_share": shares[1]}
        plug_and_play(net, of(1.0, target), of(0.0, asked), *walk, **given)
        assert asked == times[: round(10 * max(shares))] and target == times[:-1]


def test_the_regenerated_guide_is_its_own_walk_and_given_levels_are_taken_as_they_are(sd15):
    net, of = legible()
    times, asked = sd15.times(10), {}

    def guide(x, t):
        asked[t] = x
        return of(0.0)(x, t)

    x_T = drawn(0)
    plug_and_play(net, of(1.0), guide, x_T, times, sd15, **BOTH)
    for step in sample(of(0.0), x_T, times, sd15):
        assert torch.equal(asked[step.t], step.x_t)
    levels = {t: drawn(t) for t in times}
    plug_and_play(net, of(1.0), guide, levels, times, sd15, feature_share=0.5, attention_share=0)
    assert all(torch.equal(asked[t], levels[t]) for t in times[:5])


# Layers by size and number.


@pytest.fixture(scope="module")
def sd():
    return sd_shaped()


def test_on_stable_diffusion_the_layers_are_the_papers(sd):
    found = decoder(sd.unet)
    assert list(found)[4] == paper_layer(found) == (4, 1) and len(found) == 12
    assert list(injected_modules(sd.unet, "features", None)) == ["up_blocks.1.resnets.1.conv2"]
    start = "up_blocks.{}.attentions.{}.transformer_blocks.0.attn1."
    sites = [(1, 1), (1, 2), *((block, i) for block in (2, 3) for i in range(3))]
    expected = {start.format(*site) + name for site in sites for name in ("to_q", "to_k")}
    assert set(injected_modules(sd.unet, "attention", None)) == expected
    assert [at for at, layer in found.items() if not layer.attention] == [(8, 0), (8, 1), (8, 2)]


def test_each_size_is_the_grids_and_each_module_the_models(sd):
    seen = {}
    with ExitStack() as watching:
        for at, layer in decoder(sd.unet).items():
            for name, module in layer.features.items():
                assert sd.unet.get_submodule(name) is module

                def keep(h, at=at):
                    seen[at] = 32 // h.shape[-1]
                    return h

                watching.enter_context(rewriting(layer.features, keep))
            assert all(sd.unet.get_submodule(name) is each for name, each in layer.attention.items())
        sd.unet(sd.noise(1), 1, encoder_hidden_states=torch.zeros(1, 77, 16))
    assert seen == {at: at[0] for at in decoder(sd.unet)}


def test_on_the_stickers_it_is_the_second_layer_at_half_size():
    unet = load().unet
    assert list(decoder(unet)) == [(4, 0), (4, 1), (2, 0), (2, 1), (1, 0), (1, 1)]
    assert list(injected_modules(unet, "features", None)) == ["up_blocks.1.resnets.1.conv2"]
    sites = {name.split(".transformer")[0] for name in injected_modules(unet, "attention", None)}
    assert sites == {f"up_blocks.{at}" for at in ("1.attentions.1", "2.attentions.0", "2.attentions.1")}


# The peer, pnp-diffusers: one batch [source, null, text], of which slices are copied.


def peer(model, text, null, levels, times, scale, feature_steps, attention_steps):
    """Its walk: the guide's latents by time, its rows with the null text, layers by their literal paths."""
    unet, x = model.unet, levels[times[0]]
    rows = len(x)
    context = torch.cat([null, null, text]).repeat_interleave(rows, 0)

    def copied(h):
        h = h.clone()
        h[rows : 2 * rows] = h[:rows]
        h[2 * rows :] = h[:rows]
        return h

    sites = {1: (1, 2), 2: (0, 1, 2), 3: (0, 1, 2)}
    names = {
        f"up_blocks.{b}.attentions.{i}.transformer_blocks.0.attn1.processor" for b in sites for i in sites[b]
    }
    for i, (t, s) in enumerate(pairwise(times)):
        with ExitStack() as injecting:
            if i < feature_steps:
                injecting.enter_context(rewriting([unet.up_blocks[1].resnets[1].conv2], copied))
            if i < attention_steps:  # equal queries and keys are equal maps
                control = controlled(unet, lambda p, site, t: copied(p), lambda site: site.name in names)
                assert len(injecting.enter_context(control)) == 8
            eps_null, eps_text = model.predict(torch.cat([levels[t], x, x]), t, context).chunk(3)[1:]
        x = ddim_step(model.schedule, x, eps_null + scale * (eps_text - eps_null), t, s).x_s
    return x


def given_walk(model, rows, steps):
    text, null = texts(2)
    guide = classifier_free(model.predict, null, null, 1.0)
    x_0, times = model.noise(rows, torch.Generator().manual_seed(1)), model.schedule.times(steps)
    levels = {step.s: step.x_s for step in invert(guide, x_0, times, model.schedule)}
    return text, null, guide, levels, times


@pytest.mark.parametrize(
    ("rows", "shares", "counts"),
    [(1, (0.8, 0.5), (4, 2)), (2, (0.8, 0.5), (4, 2)), (2, (0.3, 0.0), (1, 0)), (1, (0.0, 1.0), (0, 5))],
)
def test_parity_with_pnp_diffusers(sd, rows, shares, counts):
    text, null, guide, levels, times = given_walk(sd, rows, 5)
    target = classifier_free(sd.predict, text, null, 7.5)
    walk = (sd.unet, target, guide, levels, times, sd.schedule)
    chosen = {"feature_share": shares[0], "attention_share": shares[1]}
    ours = plug_and_play(*walk, **chosen, compat="pnp-diffusers")
    theirs = peer(sd, text, null, levels, times, 7.5, *counts)
    assert_close(ours, theirs, rtol=0, atol=1e-4)
    plain = plug_and_play(*walk, **NONE)
    assert (plain - ours).abs().max() > 0.01


def test_a_guided_guide_goes_null_to_null_and_text_to_text(sd):
    """As in the authors' first code for pictures they generated: both of its rows are kept."""
    (text, source, null), times = texts(3), sd.schedule.times(4)
    x = x_guide = sd.noise(2, torch.Generator().manual_seed(1))
    guide, target = (classifier_free(sd.predict, each, null, 5.0) for each in (source, text))
    conv = sd.unet.up_blocks[1].resnets[1].conv2
    walk = (sd.unet, target, guide, x, times, sd.schedule)
    ours = plug_and_play(*walk, feature_share=1, attention_share=0)
    context = torch.cat([null, null, source, source, null, null, text, text])
    for t, s in pairwise(times):
        with rewriting([conv], lambda h: torch.cat([h[:4], h[:4]])):
            eps = sd.predict(torch.cat([x_guide, x_guide, x, x]), t, context).chunk(4)
        x_guide, x = (
            ddim_step(sd.schedule, each, low + 5.0 * (high - low), t, s).x_s
            for each, low, high in ((x_guide, eps[0], eps[1]), (x, eps[2], eps[3]))
        )
    assert_close(ours, x, rtol=0, atol=1e-4)


# Invariants.


def test_the_guides_own_prompt_gives_its_reconstruction(tiny):
    x_0, times = tiny.noise(2, torch.Generator().manual_seed(0)), tiny.schedule.times(10)
    guide, other = tiny.denoiser("", guidance_scale=1), tiny.denoiser("a red cat", guidance_scale=7.5)
    x_T = last(invert(guide, x_0, times, tiny.schedule))
    plain = last(sample(guide, x_T, times, tiny.schedule))
    walk = (guide, x_T, times, tiny.schedule)
    assert_close(plug_and_play(tiny.unet, guide, *walk, **BOTH), plain, rtol=0, atol=1e-4)
    assert (plug_and_play(tiny.unet, other, *walk, **BOTH) - plain).abs().max() > 0.05


def test_with_the_levels_of_inversion_the_reconstruction_is_that_up_to_the_steps_error(sd15):
    net, of = legible(attends=0.1)
    errors = []
    for steps in (25, 100, 400):
        times = sd15.times(steps)
        levels = {step.s: step.x_s for step in invert(of(0.0), drawn(0), times, sd15)}
        out = plug_and_play(net, of(0.0), of(0.0), levels, times, sd15, **BOTH)
        errors.append(float((out - drawn(0)).abs().max()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and errors[2] < 0.05


def test_everything_the_prompt_can_reach_injected_the_prompt_has_no_say(sd15):
    """Where the text acts only through the injected feature, any prompt gives the guide."""
    net, of = legible(beside=0.0)
    x_T, times = drawn(0), sd15.times(10)
    out = plug_and_play(net, of(9.0), of(0.0), x_T, times, sd15, feature_share=1, attention_share=0)
    assert torch.equal(out, last(sample(of(0.0), x_T, times, sd15)))


@pytest.mark.parametrize("by_time", [False, True])
def test_injected_at_no_step_it_is_the_plain_walk_from_x_T(tiny, by_time):
    x_T, times = tiny.noise(2, torch.Generator().manual_seed(0)), tiny.schedule.times(5)
    target, guide = tiny.denoiser("a red cat"), tiny.denoiser("", guidance_scale=1)
    levels = {times[0]: x_T} if by_time else x_T
    out = plug_and_play(tiny.unet, target, guide, levels, times, tiny.schedule, **NONE)
    assert torch.equal(out, last(sample(target, x_T, times, tiny.schedule)))


def test_each_share_has_an_effect_of_its_own(tiny):
    x_T, times = tiny.noise(1, torch.Generator().manual_seed(0)), tiny.schedule.times(4)
    target, guide = tiny.denoiser("a red cat"), tiny.denoiser("", guidance_scale=1)
    walk = (tiny.unet, target, guide, x_T, times, tiny.schedule)
    results = [
        plug_and_play(*walk, feature_share=f, attention_share=a) for f in (0.0, 0.5, 1.0) for a in (0, 0.5, 1)
    ]
    assert all(not torch.equal(one, two) for i, one in enumerate(results) for two in results[:i])


def test_a_batch_gives_what_its_pictures_give_alone(tiny):
    x_T, times = tiny.noise(3, torch.Generator().manual_seed(0)), tiny.schedule.times(4)
    target, guide = tiny.denoiser("a red cat"), tiny.denoiser("", guidance_scale=1)
    whole = plug_and_play(tiny.unet, target, guide, x_T, times, tiny.schedule)
    alone = [plug_and_play(tiny.unet, target, guide, each[None], times, tiny.schedule) for each in x_T]
    assert_close(whole, torch.cat(alone), rtol=0, atol=1e-4)


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.unet.modules())


def test_no_hook_stays_between_two_steps_after_the_walk_or_after_a_failure(tiny):
    x_T, times = tiny.noise(1, torch.Generator().manual_seed(0)), tiny.schedule.times(4)
    target, guide = tiny.denoiser("a red cat"), tiny.denoiser("", guidance_scale=1)
    before, plain = hooks(tiny), target(x_T, 500)
    for step in plug_and_play_steps(tiny.unet, target, guide, x_T, times, tiny.schedule, **BOTH):
        assert hooks(tiny) == before and step.s < step.t

    def failing(x_t, t):
        target(x_t, t)
        assert hooks(tiny) > before
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        plug_and_play(tiny.unet, failing, guide, x_T, times, tiny.schedule)
    assert hooks(tiny) == before and torch.equal(target(x_T, 500), plain)


def test_fast_attention_kernels_stay(tiny, monkeypatch):
    """Queries and keys are injected, so that no site builds its map: every one calls torch's own kernel."""
    calls, fast = [], torch.nn.functional.scaled_dot_product_attention

    def counted(*args, **kwargs):
        calls.append(args[0].shape)
        return fast(*args, **kwargs)

    x_T, times = tiny.noise(1, torch.Generator().manual_seed(0)), tiny.schedule.times(2)
    target, guide = tiny.denoiser("a red cat"), tiny.denoiser("", guidance_scale=1)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    plug_and_play(tiny.unet, target, guide, x_T, times, tiny.schedule, **BOTH)
    assert len(calls) == 2 * 2 * len(tiny.unet.attn_processors)


def test_it_holds_one_step_of_the_guide_at_a_time(tiny):
    """What the guide computed at a step is gone at the next one."""
    x_T, times, kept = tiny.noise(1, torch.Generator().manual_seed(0)), tiny.schedule.times(4), []
    inner = tiny.denoiser("", guidance_scale=1)

    def guide(x_t, t):
        assert all(each() is None for each in kept[1:-1]), "an earlier level of the guide is still held"
        kept.append(weakref.ref(x_t))
        return inner(x_t, t)

    levels = x_T.clone()
    plug_and_play(tiny.unet, tiny.denoiser("a red cat"), guide, levels, times, tiny.schedule, **BOTH)
    assert len(kept) == 4


# Stable Diffusion's shape, in single and in half precision.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("compat", [None, "plug-and-play", "pnp-diffusers"])
def test_on_stable_diffusions_shape(dtype, compat):
    model, (text, null) = sd_shaped(dtype), texts(2, dtype)
    x_T, times = model.noise(1, torch.Generator().manual_seed(0)), model.schedule.times(4)
    target, guide = (classifier_free(model.predict, *each) for each in ((text, null, 7.5), (null, null, 1.0)))
    walk = (model.unet, target, guide, x_T, times, model.schedule)
    out, plain = plug_and_play(*walk, compat=compat), plug_and_play(*walk, **NONE)
    assert out.dtype == dtype and out.shape == x_T.shape and out.isfinite().all()
    assert (out - plain).abs().max() > 1e-2


# Bad input: refused at the door, before a model is asked.


def never(x_t, t):
    raise AssertionError("a model was asked")


def refuse(match, unet=None, levels=None, times=None, **options):
    schedule = Schedule.from_config({"steps_offset": 1})
    times = schedule.times(10) if times is None else times
    unet = legible()[0] if unet is None else unet
    with pytest.raises(ValueError, match=match):
        plug_and_play_steps(
            unet, never, never, drawn(0) if levels is None else levels, times, schedule, **options
        )


@given(st.floats(allow_nan=True).filter(lambda x: not 0 <= x <= 1), st.sampled_from(sorted(BOTH)))
def test_a_share_outside_its_range_is_refused(share, name):
    refuse(rf"{name} must be in \[0, 1\]", **{name: share})


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 3)), max_size=3).filter(
        lambda chosen: set(chosen) != {(1, 0)}
    ),
    st.sampled_from(["features", "attention"]),
)
def test_no_layer_and_a_layer_that_is_not_there_are_refused(chosen, what):
    refuse(rf"{what} must name one or more of the layers \[\(1, 0\)\], got", **{what: chosen})


def test_a_layer_without_attention_is_refused(sd):
    refuse(r"attention must name one or more of the layers \[\(4, 0\)", unet=sd.unet, attention=[(8, 1)])


def test_other_bad_input_is_refused():
    refuse("compat must be one of", compat="diffusers")
    refuse("times must be at least two and fall", times=[500, 700, -1])
    refuse("times must be at least two and fall", times=[])
    refuse(r"levels lack the guide at times \[901", levels={t: drawn(0) for t in (-1, 1, 101)})


def test_a_denoiser_that_does_not_run_the_layers_is_refused(sd15):
    net, of = legible()
    _, elsewhere = legible()
    walk = (drawn(0), sd15.times(4), sd15)
    with pytest.raises(ValueError, match=r"guide's denoiser ran .* 0 times, not once"):
        plug_and_play(net, of(1.0), elsewhere(0.0), *walk)
    with pytest.raises(ValueError, match=r"target's denoiser did not run .*conv2"):
        plug_and_play(net, elsewhere(1.0), of(0.0), *walk)

    def twice(x_t, t):
        return of(0.0)(x_t, t) + of(0.0)(x_t, t)

    with pytest.raises(ValueError, match="2 times, not once"):
        plug_and_play(net, of(1.0), twice, *walk)

    def three(x_t, t):
        return net(x_t[:1].repeat(3, 1, 1, 1), torch.zeros(1, dtype=torch.float64))[:2]

    with pytest.raises(ValueError, match="as many rows or a multiple"):
        plug_and_play(net, three, of(0.0), *walk)


def test_fused_projections_are_refused_not_passed_over(build):
    model = build()
    model.unet.fuse_qkv_projections()
    x_T, times = model.noise(1, torch.Generator().manual_seed(0)), model.schedule.times(4)
    target, guide = model.denoiser("a red cat"), model.denoiser("", guidance_scale=1)
    with pytest.raises(ValueError, match=r"to_q 0 times, not once.*unfused"):
        plug_and_play(model.unet, target, guide, x_T, times, model.schedule)
