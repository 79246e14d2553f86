"""Chapter 1's exercises, but for stochastic refinement's, and typical mistakes."""

from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import median_filter

from course.core.sampling import blend, ddim_step, noise_like
from course.core.schedule import CLEAN
from tests.solutions.exercises import Exercises

BEFORE = {
    "1_sdedit": ["toy", "toy-check"],
    "2_blended_diffusion": ["toy"],
    "3_palette": [],
    "5_sparse_inference": [],
}  # cells that the exercises need
EXERCISES = {
    "share_after": ("1_sdedit", "exercise-1"),
    "simulated_strokes": ("1_sdedit", "exercise-2"),
    "by_hand": ("2_blended_diffusion", "exercise-1"),
    "listening": ("2_blended_diffusion", "exercise-2"),
    "loss_of_the_hole": ("3_palette", "exercise-1"),
    "one_and_mean": ("3_palette", "exercise-2"),
    "one_block": ("5_sparse_inference", "exercise-1"),
    "reach": ("5_sparse_inference", "exercise-2"),
}

CHAPTER = Exercises("1_noise_editing", BEFORE, EXERCISES)
solution = CHAPTER.solution


def once_only(repeats, signal, noise, std):
    return (signal * std) ** 2 / ((signal * std) ** 2 + noise**2)


def divided(repeats, signal, noise, std):
    return once_only(repeats, signal, noise, std) / repeats


def no_spread(repeats, signal, noise, std):
    return (signal**2) ** repeats


def no_median(pixels):
    return np.array(Image.fromarray(pixels).quantize(6).convert("RGB"))


def all_colours(pixels):
    return median_filter(pixels, size=(7, 7, 1))


def one_colour(pixels):
    return np.full_like(pixels, int(pixels.mean()))


def pasted_at_the_end(denoise, source, mask, noise, walk, schedule):
    x = schedule.add_noise(source, noise, walk[0])
    for t, s in pairwise(walk):
        x = ddim_step(schedule, x, denoise(x, t), t, s).x_s
    return blend(x, source, mask)


def one_step_too_noisy(denoise, source, mask, noise, walk, schedule):
    x = schedule.add_noise(source, noise, walk[0])
    for t, s in pairwise(walk):
        step = ddim_step(schedule, x, denoise(x, t), t, s)
        x = blend(step.x_s, source if s == CLEAN else schedule.add_noise(source, noise, t), mask)
    return x


def noise_left_at_the_end(denoise, source, mask, noise, walk, schedule):
    x = schedule.add_noise(source, noise, walk[0])
    for t, s in pairwise(walk):
        step = ddim_step(schedule, x, denoise(x, t), t, s)
        x = blend(step.x_s, schedule.add_noise(source, noise, max(s, 0)), mask)
    return x


def mask_turned_round(denoise, source, mask, noise, walk, schedule):
    return solution("by_hand")(denoise, source, 1 - mask, noise, walk, schedule)


def never_again(denoise, source, mask, walk, schedule, again, generator):
    return solution("listening")(denoise, source, mask, walk, schedule, 1, generator)


def back_without_noise(denoise, source, mask, walk, schedule, again, generator):
    x = schedule.add_noise(source, noise_like(source, generator), walk[0])
    for t, s in pairwise(walk):
        for turn in range(again):
            x_s = ddim_step(schedule, x, denoise(x, t), t, s).x_s
            fresh = noise_like(source, generator)
            x_s = blend(x_s, source if s == CLEAN else schedule.add_noise(source, fresh, s), mask)
            x = x_s * schedule.signal(t) / schedule.signal(s) if turn < again - 1 else x_s
    return x


def back_too_far(denoise, source, mask, walk, schedule, again, generator):
    x = schedule.add_noise(source, noise_like(source, generator), walk[0])
    for t, s in pairwise(walk):
        for turn in range(again):
            x_s = ddim_step(schedule, x, denoise(x, t), t, s).x_s
            fresh = noise_like(source, generator)
            x_s = blend(x_s, source if s == CLEAN else schedule.add_noise(source, fresh, s), mask)
            x = schedule.add_noise(x_s, noise_like(source, generator), t) if turn < again - 1 else x_s
    return x


def over_all(answer, eps, mask):
    return (mask * (answer - eps)).square().mean()


def outside(answer, eps, mask):
    return solution("loss_of_the_hole")(answer, eps, 1 - mask)


def pictures_counted_alike(answer, eps, mask):
    each = (mask * (answer - eps).square()).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return each.mean()


def channels_forgotten(answer, eps, mask):
    return 3 * solution("loss_of_the_hole")(answer, eps, mask)


def the_other_way_round(samples, truth):
    return solution("one_and_mean")(samples, truth)[::-1]


def mean_over_pixels(samples, truth):
    one, _ = solution("one_and_mean")(samples, truth)
    return one, (samples.mean((1, 2, 3), keepdim=True) - truth).square().mean()


def one_alone(samples, truth):
    one, _ = solution("one_and_mean")(samples, truth)
    return one, (samples[:1] - truth).square().mean()


def without_halo(layer, x, top, left, side):
    return layer(x[..., top : top + side, left : left + side])


def all_computed(layer, x, top, left, side):
    return layer(x)[..., top : top + side, left : left + side]


def cut_off_at_the_edge(layer, x, top, left, side):
    rows, columns = (slice(max(first - 1, 0), first + side + 1) for first in (top, left))
    return torch.nn.functional.conv2d(x[..., rows, columns], layer.weight, layer.bias)


def strides_forgotten(layers):
    return sum(dilation * (kernel - 1) // 2 for kernel, _, dilation in layers)


def dilations_forgotten(layers):
    return solution("reach")([(kernel, stride, 1) for kernel, stride, _ in layers])


def both_sides_added(layers):
    return 2 * solution("reach")(layers)


MISTAKES = {
    "share_after": [once_only, divided, no_spread],
    "simulated_strokes": [no_median, all_colours, one_colour],
    "by_hand": [pasted_at_the_end, one_step_too_noisy, noise_left_at_the_end, mask_turned_round],
    "listening": [never_again, back_without_noise, back_too_far],
    "loss_of_the_hole": [over_all, outside, pictures_counted_alike, channels_forgotten],
    "one_and_mean": [the_other_way_round, mean_over_pixels, one_alone],
    "one_block": [without_halo, all_computed, cut_off_at_the_edge],
    "reach": [strides_forgotten, dilations_forgotten, both_sides_added],
}
