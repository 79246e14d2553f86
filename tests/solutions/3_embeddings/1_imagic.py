"""Solutions of the exercises in notebooks/3_embeddings/1_imagic.ipynb."""

import torch

from course import load

schedule = load().schedule


def stop_at(drawn, picture, target):
    return picture * target / drawn


def find_text(predict, x_0, text, steps, lr, batch, generator):
    text = text.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([text], lr)
    rows = x_0.expand(batch, -1, -1, -1)
    for _ in range(steps):
        t = torch.randint(len(schedule.alpha_bar), (batch,), generator=generator)
        eps = torch.randn(rows.shape, generator=generator)
        found = predict(schedule.add_noise(rows, eps, t), t, text.expand(batch, -1, -1))
        loss = (found - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return text.detach()
