"""Solutions of the exercises in notebooks/3_embeddings/2_null_text.ipynb."""

from itertools import pairwise

import torch

from course.core.sampling import ddim_step


def null_for(goal, text, scale):
    return (goal - scale * text) / (1 - scale)


def search(predict, pivot, text, null, schedule, scale, tries, lr):
    times, nulls = list(pivot), {}
    x = pivot[times[0]]

    def guided(null):
        eps_text, eps_null = predict(x, t, text), predict(x, t, null)
        return ddim_step(schedule, x, eps_null + scale * (eps_text - eps_null), t, s).x_s

    for t, s in pairwise(times):
        null = null.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([null], lr)
        for _ in range(tries):
            loss = (guided(null) - pivot[s]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        null = null.detach()
        nulls[t], x = null, guided(null)
    return nulls
