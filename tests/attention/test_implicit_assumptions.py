"""TIME: an exact optimum, equal to its peer where that works, gone after the block, and never silent."""

import warnings
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.models import attention_processor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers import CLIPTextConfig, CLIPTextModel

from course.attention.implicit_assumptions import aligned, edited_projection, partners, time_edit
from tests.attention.conftest import sd_shaped
from tests.core.tiny import SD15, as_model, tiny_pipeline, word_tokenizer

SOURCE, DESTINATION = "a cat on grass", "a blue cat on grass"
KNOWN = ("a photo of ", "a sketch of ")  # what the tiny tokenizer can put before a prompt


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def problem():
    """W [5 8], six contexts [6 8] and their values [6 5], without any relation."""
    return drawn(0, 5, 8), drawn(1, 6, 8), drawn(2, 6, 5)


def loss(weight, old, contexts, values, lam):
    return (contexts @ weight.T - values).square().sum() + lam * (weight - old).square().sum()


# The closed form.


@pytest.mark.parametrize("lam", [1e-3, 0.1, 1.0, 1e3])
def test_no_other_weights_do_better(problem, lam):
    old, contexts, values = problem
    found = edited_projection(old, contexts, values, lam).requires_grad_()
    least = loss(found, *problem, lam)
    (slope,) = torch.autograd.grad(least, found)
    assert slope.abs().max() < 1e-10 * (1 + lam)
    assert loss(found + 1e-3 * drawn(3, 5, 8), *problem, lam) > least
    (at_the_old,) = torch.autograd.grad(loss(old.requires_grad_(), *problem, lam), old)
    old.requires_grad_(False)
    assert at_the_old.abs().max() > 1


def test_it_is_the_paper_s_sums_written_out_one_by_one(problem):
    old, contexts, values = problem
    left, right = 0.1 * old, 0.1 * torch.eye(8, dtype=torch.float64)
    for c, v in zip(contexts, values, strict=True):
        left, right = left + torch.outer(v, c), right + torch.outer(c, c)
    assert_close(edited_projection(*problem, 0.1), left @ torch.inverse(right))


def test_a_strong_pull_leaves_the_weights_and_a_weak_one_maps_independent_contexts_exactly(problem):
    old, contexts, values = problem
    assert_close(edited_projection(*problem, 1e12), old, rtol=0, atol=1e-9)
    free = edited_projection(*problem, 1e-8)
    assert_close(contexts @ free.T, values, rtol=0, atol=1e-5)
    unseen = torch.linalg.svd(contexts).Vh[6:]  # directions that no context has
    assert_close(unseen @ free.T, unseen @ old.T, rtol=0, atol=1e-5)


def test_for_one_context_it_moves_along_that_context_alone():
    """W' = W + (v - W c) c^T / (lam + |c|^2), by hand."""
    old, c, v = drawn(0, 3, 4), drawn(1, 1, 4), drawn(2, 1, 3)
    moved = (v - c @ old.T).T @ c / (0.5 + c.square().sum())
    assert_close(edited_projection(old, c, v, 0.5), old + moved)


def test_the_smaller_lam_the_nearer_to_the_values_and_the_further_from_the_old_weights(problem):
    old, contexts, values = problem
    found = [edited_projection(*problem, lam) for lam in (100.0, 10.0, 1.0, 0.1)]
    misses = [float((contexts @ each.T - values).norm()) for each in found]
    moved = [float((each - old).norm()) for each in found]
    assert misses == sorted(misses, reverse=True) and moved == sorted(moved)
    assert misses[-1] < misses[0] / 3


def test_values_of_the_old_weights_themselves_change_nothing(problem):
    old, contexts, _ = problem
    assert_close(edited_projection(old, contexts, contexts @ old.T, 0.1), old)


# Which embeddings belong together.


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        (SOURCE, DESTINATION, [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11]),
        (SOURCE, "a photo of a cat on grass", [0, 1, 5, 6, 7, 8, 9, 10, 11, 11, 11, 11]),
        ("a cat", "a cat", list(range(12))),
        ("", "a cat", [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 11]),
    ],
)
def test_tokens_find_their_partners_in_order_and_padding_follows_on(source, destination, expected):
    assert partners(word_tokenizer(), source, destination, 12) == expected


def test_an_counts_as_a():
    class Spelt:
        """A tokenizer of words that shares the tiny one's manner and knows two more."""

        words = ("<s>", "</s>", "a", "an", "apple", "blue")
        is_fast, padding_side, unk_token, unk_token_id, model_max_length = True, "right", "<u>", 99, 8

        def __call__(self, prompt, return_offsets_mapping=False, verbose=True):
            ids = [0, *(self.words.index(word) for word in prompt.split()), 1]
            found = type("Found", (dict,), {"input_ids": property(lambda self: self["input_ids"])})
            return found(input_ids=ids, offset_mapping=[(0, 0)] * len(ids))

        def decode(self, ids):
            return self.words[ids[0]]

    assert partners(Spelt(), "an apple", "a blue apple", 8) == [0, 1, 3, 4, 5, 6, 7, 7]


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_added_words_never_disturb_the_partners_of_the_others(data):
    words = data.draw(st.lists(st.sampled_from(["a", "red", "cat", "dog", "on"]), max_size=5))
    places = data.draw(st.lists(st.integers(0, len(words)), max_size=4))
    longer = list(words)
    for place in sorted(places, reverse=True):
        longer.insert(place, "snow")
    found = partners(word_tokenizer(), " ".join(words), " ".join(longer), 12)
    ids = [word_tokenizer()(" ".join(each)).input_ids for each in (words, longer)]
    assert [ids[1][j] for j in found[: len(ids[0])]] == ids[0]
    assert found == sorted(found) and len(found) == 12 and found[-1] == 11


def test_the_augmented_pairs_are_aligned_each_on_its_own(tiny):
    contexts, targets = aligned(tiny, SOURCE, DESTINATION, KNOWN)
    assert contexts.shape == targets.shape == (3, 12, 16)
    for row, start in enumerate(("", *KNOWN)):
        assert_close(contexts[row], tiny.encode_text(start + SOURCE)[0])
        where = partners(tiny.tokenizer, start + SOURCE, start + DESTINATION, 12)
        assert_close(targets[row], tiny.encode_text(start + DESTINATION)[0, where])


# The edit of a model.


def weights_of(model):
    return {name: weight.clone() for name, weight in model.unet.state_dict().items()}


def answer(model, text, t=500):
    noise = model.noise(1, torch.Generator().manual_seed(0))
    return model.predict(noise, t, text)


@pytest.mark.parametrize("keys", [True, False])
def test_the_projections_of_all_cross_attention_change_and_nothing_else(tiny, keys):
    before = weights_of(tiny)
    with time_edit(tiny, SOURCE, DESTINATION, augmentations=KNOWN, keys=keys) as names:
        inside = weights_of(tiny)
    changed = {name for name in before if not torch.equal(before[name], inside[name])}
    kinds = (".attn2.to_k.weight", ".attn2.to_v.weight") if keys else (".attn2.to_v.weight",)
    assert changed == {name for name in before if name.endswith(kinds)}
    assert changed == {f"{name}.weight" for name in names} and len(names) == (8 if keys else 4)
    after = weights_of(tiny)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_each_projection_is_at_its_optimum(tiny):
    contexts, targets = (rows.flatten(0, 1).double() for rows in aligned(tiny, SOURCE, DESTINATION, KNOWN))
    before = weights_of(tiny)
    with time_edit(tiny, SOURCE, DESTINATION, 0.1, augmentations=KNOWN) as names:
        for name in names:
            old = before[f"{name}.weight"].double()
            new = tiny.unet.get_submodule(name).weight.double().requires_grad_()
            (slope,) = torch.autograd.grad(loss(new, old, contexts, targets @ old.T, 0.1), new)
            (at_the_old,) = torch.autograd.grad(
                loss(old.requires_grad_(), old.detach(), contexts, targets @ old.detach().T, 0.1), old
            )
            assert slope.norm() < 1e-5 * at_the_old.norm()


def test_the_whole_edit_is_one_matrix_before_all_layers(tiny):
    """All values are W c*, so W' = W T, with one T for all: the edited model reads the text T c."""
    contexts, targets = (rows.flatten(0, 1) for rows in aligned(tiny, SOURCE, DESTINATION, KNOWN))
    shared = edited_projection(torch.eye(16), contexts, targets, 0.1)
    text = tiny.encode_text("a dog on snow")
    expected = answer(tiny, (text.double() @ shared.T).float())
    with time_edit(tiny, SOURCE, DESTINATION, 0.1, augmentations=KNOWN):
        assert_close(answer(tiny, text), expected, rtol=0, atol=1e-5)
    assert (answer(tiny, text) - expected).abs().max() > 1e-3


def test_with_a_weak_pull_the_source_is_answered_as_the_aligned_destination(tiny):
    contexts, targets = aligned(tiny, SOURCE, DESTINATION)
    plain, wanted = answer(tiny, contexts), answer(tiny, targets)
    far = (wanted - plain).abs().max()
    misses = []
    for lam in (1e4, 1.0, 1e-3, 1e-6):
        with time_edit(tiny, SOURCE, DESTINATION, lam, augmentations=()):
            misses.append(float((answer(tiny, contexts) - wanted).abs().max() / far))
    assert misses == sorted(misses, reverse=True)
    assert misses[0] > 0.9 and misses[-1] < 1e-3


def test_a_destination_that_says_the_same_changes_no_bit(tiny):
    before = weights_of(tiny)
    with time_edit(tiny, SOURCE, SOURCE, augmentations=KNOWN):
        inside = weights_of(tiny)
    assert all(torch.equal(before[name], inside[name]) for name in before)


def test_blocks_nest_and_an_error_inside_leaves_the_weights_as_they_were(tiny):
    before = weights_of(tiny)
    with time_edit(tiny, SOURCE, DESTINATION, augmentations=()):
        outer = weights_of(tiny)
        with pytest.raises(RuntimeError, match="by the way"):  # noqa: SIM117
            with time_edit(tiny, "a dog", "a red dog", augmentations=()):
                inner = weights_of(tiny)
                raise RuntimeError("by the way")
        again = weights_of(tiny)
    name = next(name for name in before if name.endswith("attn2.to_v.weight"))
    assert not torch.equal(outer[name], inner[name])
    assert all(torch.equal(outer[name], again[name]) for name in before)
    assert all(torch.equal(before[name], weight) for name, weight in weights_of(tiny).items())


def test_the_caller_s_gradients_go_on_through_the_edited_model(tiny):
    text = tiny.encode_text(SOURCE).requires_grad_()
    with time_edit(tiny, SOURCE, DESTINATION, augmentations=()):
        answer(tiny, text).sum().backward()
    assert text.grad.abs().max() > 0


# The peer: diffusers' pipeline, on weights of its width.


@pytest.fixture(scope="module")
def wide():
    """A narrow U-Net that reads 77 tokens of 768 numbers, as the pipeline asks of a model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            layers_per_block=1,
            block_out_channels=(16, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            cross_attention_dim=768,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        tokenizer = word_tokenizer(77)
        sizes = {"hidden_size": 768, "intermediate_size": 64, "num_hidden_layers": 2}
        ids = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
        text_encoder = CLIPTextModel(CLIPTextConfig(num_attention_heads=4, **sizes, **ids))
    return replace(as_model(tiny_pipeline()), unet=unet, tokenizer=tokenizer, text_encoder=text_encoder)


def peer(model, augmentations=()):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        from diffusers import StableDiffusionModelEditingPipeline

        return StableDiffusionModelEditingPipeline(
            vae=model.vae,
            text_encoder=model.text_encoder,
            tokenizer=model.tokenizer,
            unet=model.unet,
            scheduler=DDIMScheduler.from_config(SD15),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            with_augs=list(augmentations),
        )


def edited_by_the_peer(model, lam):
    """The U-Net's weights after the pipeline's edit of a copy of the model."""
    model = replace(model, unet=deepcopy(model.unet))
    peer(model, KNOWN[:1]).edit_model(SOURCE, DESTINATION, lamb=lam)
    return weights_of(model)


def edited_by_us(model, lam, compat):
    with time_edit(model, SOURCE, DESTINATION, lam, augmentations=KNOWN[:1], compat=compat) as names:
        assert len(names) == 4
        return {f"{name}.weight" for name in names}, weights_of(model)


@pytest.fixture
def renamed():
    """The class name that the pipeline looks for."""
    name = attention_processor.Attention.__name__
    attention_processor.Attention.__name__ = "CrossAttention"
    yield
    attention_processor.Attention.__name__ = name


def test_the_pipeline_as_shipped_changes_nothing_and_does_not_say_so(wide, caplog):
    before, pipeline = weights_of(wide), peer(wide)
    caplog.clear()
    pipeline.edit_model(SOURCE, DESTINATION)
    after = weights_of(pipeline)
    assert pipeline.projection_matrices == [] and not caplog.records
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_parity_with_the_pipeline_in_double_precision_once_it_finds_its_layers(wide, renamed):
    model = replace(
        wide, unet=deepcopy(wide.unet).double(), text_encoder=deepcopy(wide.text_encoder).double()
    )
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of the identity that the pipeline makes
    try:
        theirs = edited_by_the_peer(model, 0.1)
    finally:
        torch.set_default_dtype(usual)
    before = weights_of(model)
    for compat in (None, "diffusers"):
        names, ours = edited_by_us(model, 0.1, compat)
        for name in before:
            assert_close(ours[name], theirs[name], rtol=0, atol=1e-7)
    assert all((theirs[name] - before[name]).abs().max() > 1e-3 for name in names)


def test_parity_in_single_precision_and_what_that_precision_loses(wide, renamed):
    """With a strong pull all agree; at the paper's 0.1 float32 alone makes the difference."""
    names, ours = edited_by_us(wide, 100.0, "diffusers")
    before, theirs = weights_of(wide), edited_by_the_peer(wide, 100.0)
    for name in before:
        assert_close(ours[name], theirs[name], rtol=0, atol=1e-4)
    assert all((theirs[name] - before[name]).abs().max() > 1e-3 for name in names)
    exact, theirs = edited_by_us(wide, 0.1, None)[1], edited_by_the_peer(wide, 0.1)
    mode = edited_by_us(wide, 0.1, "diffusers")[1]
    for name in names:
        update = (exact[name] - before[name]).norm()
        for each in (mode, theirs):
            assert 1e-3 < (each[name] - exact[name]).norm() / update < 0.2


def test_float64_is_nearer_to_the_optimum(wide):
    contexts, targets = (r.flatten(0, 1).double() for r in aligned(wide, SOURCE, DESTINATION, KNOWN[:1]))
    before, slopes = weights_of(wide), {}
    for compat in (None, "diffusers"):
        names, after = edited_by_us(wide, 0.1, compat)
        slopes[compat] = 0.0
        for name in names:
            old, new = before[name].double(), after[name].double().requires_grad_()
            (slope,) = torch.autograd.grad(loss(new, old, contexts, targets @ old.T, 0.1), new)
            slopes[compat] += float(slope.norm())
    assert slopes[None] < slopes["diffusers"] / 3


# Stable Diffusion's shape, single and half precision.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_of_stable_diffusion_s_shape_is_edited_and_restored(dtype):
    model = sd_shaped(dtype)
    model = replace(model, text_encoder=model.text_encoder.to(dtype))
    before = weights_of(model)
    contexts, targets = (r.flatten(0, 1) for r in aligned(model, SOURCE, DESTINATION, KNOWN))
    plain = answer(model, model.encode_text(SOURCE))
    with time_edit(model, SOURCE, DESTINATION, augmentations=KNOWN) as names:
        inside, edited = weights_of(model), answer(model, model.encode_text(SOURCE))
    assert len(names) == 32  # K and V of 16 layers
    assert edited.dtype == dtype and edited.isfinite().all() and (edited - plain).abs().max() > 1e-3
    for name in (f"{each}.weight" for each in names):
        old = before[name]
        exact = edited_projection(old, contexts, targets.double() @ old.double().T, 0.1)
        assert inside[name].dtype == dtype
        assert torch.equal(inside[name], exact.to(dtype))
    assert all(torch.equal(before[name], weight) for name, weight in weights_of(model).items())


# Bad input: refused before a weight is touched.


def refuse(match, model, source=SOURCE, destination=DESTINATION, lam=0.1, **options):
    before = weights_of(model)
    with pytest.raises(ValueError, match=match):  # noqa: SIM117
        with time_edit(model, source, destination, lam, **{"augmentations": ()} | options):
            raise AssertionError("the block was entered")
    assert all(torch.equal(before[name], weight) for name, weight in weights_of(model).items())


@pytest.mark.parametrize(
    ("source", "destination", "word"),
    [
        ("a red cat", "a blue cat", "red"),
        ("a cat on grass", "grass on a cat", "on"),
        ("a blue cat", "a cat", "blue"),
        ("a cat cat", "a cat", "cat"),
    ],
)
def test_a_destination_that_does_not_contain_the_source_is_refused(tiny, source, destination, word):
    refuse(f"source with words added, and '{word}'", tiny, source, destination)


@settings(deadline=None, max_examples=25)
@given(lam=st.floats(allow_nan=True).filter(lambda x: not 0 < x < float("inf")))
def test_a_pull_that_is_not_above_zero_is_refused(lam):
    with pytest.raises(ValueError, match="lam must be above 0 and finite"):
        edited_projection(drawn(0, 5, 8), drawn(1, 6, 8), drawn(2, 6, 5), lam)


def test_other_bad_input_is_refused(tiny):
    refuse("lam must be above 0", tiny, lam=0.0)
    refuse("compat must be one of", tiny, compat="paper")
    refuse("shorten", tiny, SOURCE, "a cat on grass" + " a" * 9)
    with (
        pytest.raises(ValueError, match=r"does not know 'An'.*'image'"),
        time_edit(tiny, SOURCE, DESTINATION),
    ):
        raise AssertionError("the paper's own augmentations hold a word that this tokenizer lacks")


def test_a_model_without_cross_attention_is_refused(tiny):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = UNet2DModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
        )
    refuse("accepted none of the", replace(tiny, unet=plain))


def test_the_tiny_model_s_own_pipeline_is_not_what_the_peer_can_read(renamed):
    """Its text is 16 numbers wide; the pipeline passes over all but 768."""
    assert peer(as_model(tiny_pipeline())).projection_matrices == []
