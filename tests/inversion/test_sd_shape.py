"""The methods on a U-Net of Stable Diffusion 1.5's shape, in single and in half precision."""

import pytest
import torch

from course.core.guidance import classifier_free
from course.inversion.contrast import contrast, contrast_mask
from course.inversion.ddib import ddib
from course.inversion.diffedit import diffedit
from tests.inversion.conftest import sd_shaped, texts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_diffedit_finds_a_mask_and_keeps_the_rest(dtype):
    model, (source, target, null) = sd_shaped(dtype), texts(3, dtype)
    x_0, times = model.noise(1, torch.Generator().manual_seed(0)), model.schedule.times(4)
    plain = [classifier_free(model.predict, text, null, 1.0) for text in (target, source, null)]
    draws = {"draws": 2, "generator": torch.Generator().manual_seed(1)}
    mask = contrast_mask(contrast(*plain[:2], x_0, times, model.schedule, **draws))
    assert mask.shape == (1, 1, 32, 32) and 0 < mask.mean() < 1 and mask.dtype == dtype
    query = classifier_free(model.predict, target, null, 7.5)
    out = diffedit(query, plain[2], x_0, mask, times, model.schedule)
    kept = (mask == 0).expand_as(out)
    assert out.dtype == dtype and out.isfinite().all()
    assert torch.equal(out[kept], x_0[kept]) and not torch.equal(out[~kept], x_0[~kept])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ddib_translates_between_two_texts(dtype):
    model, (source, target, null) = sd_shaped(dtype), texts(3, dtype)
    x_0, times = model.noise(2, torch.Generator().manual_seed(0)), model.schedule.times(4)
    one, two = (classifier_free(model.predict, text, null, 1.0) for text in (source, target))
    out = ddib(one, two, x_0, times, model.schedule)
    assert out.shape == x_0.shape and out.dtype == dtype and out.isfinite().all()
    assert (out - ddib(one, one, x_0, times, model.schedule)).abs().max() > 1e-2
