"""The methods of this chapter as plain loops over diffusers' schedulers, sharing no code with the library."""

import torch
import torch.nn.functional as F
from diffusers import DDIMInverseScheduler, DDIMScheduler


def eps_of(pipeline, x_t, t, text):
    """The noise that the U-Net sees, from eps or v."""
    output = pipeline.unet(x_t, t, encoder_hidden_states=text).sample
    if pipeline.scheduler.config.prediction_type == "epsilon":
        return output
    alpha_bar = pipeline.scheduler.alphas_cumprod.to(x_t)[t].reshape(-1, 1, 1, 1)
    return alpha_bar.sqrt() * output + (1 - alpha_bar).sqrt() * x_t


def schedulers(pipeline, steps):
    """Of sampling and of inversion; they are given eps, whatever the U-Net predicts."""
    found = []
    for kind in (DDIMScheduler, DDIMInverseScheduler):
        scheduler = kind.from_config(pipeline.scheduler.config, prediction_type="epsilon")
        scheduler.set_timesteps(steps)
        found.append(scheduler)
    return found


def null_text(pipeline, x_0, text, null, steps, scale, inner_steps=10):
    """The latents of pivot and walk, and the null embeddings, of one picture; as null_text_w_ptp.ipynb."""
    forward, backward = schedulers(pipeline, steps)
    pivot = [x_0]
    with torch.no_grad():
        for t in backward.timesteps:
            eps = eps_of(pipeline, pivot[-1], int(t), text)
            pivot.append(backward.step(eps, t, pivot[-1]).prev_sample)
    x, found, walk = pivot[-1], [], [pivot[-1]]
    null = null.clone()

    def guided(null, x, t):
        both = eps_of(pipeline, torch.cat([x] * 2), int(t), torch.cat([null, text]))
        eps_null, eps_text = both.chunk(2)
        eps = eps_null + scale * (eps_text - eps_null)
        return forward.step(eps, t, x).prev_sample

    for i, t in enumerate(forward.timesteps):
        null = null.detach().clone().requires_grad_(True)
        optimizer = torch.optim.Adam([null], lr=1e-2 * (1 - i / 100))
        for _ in range(inner_steps):
            loss = F.mse_loss(guided(null, x, t), pivot[len(pivot) - i - 2])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if loss.item() < 1e-5 + i * 2e-5:
                break
        with torch.no_grad():
            x = guided(null, x, t)
        found.append(null.detach())
        walk.append(x)
    return pivot[::-1], found, walk


def imagic(pipeline, x_0, target, steps, lrs, batch, generator):
    """The embedding and the tuned weights, by name; changes the pipeline's U-Net."""
    scheduler, unet = DDIMScheduler.from_config(pipeline.scheduler.config), pipeline.unet
    embedding = target.clone().requires_grad_(True)
    for weights, lr in (([embedding], lrs[0]), (list(unet.parameters()), lrs[1])):
        unet.requires_grad_(weights[0] is not embedding)
        embedding.requires_grad_(weights[0] is embedding)
        optimizer = torch.optim.Adam(weights, lr=lr)
        for _ in range(steps):
            t = torch.randint(1000, (batch,), generator=generator)
            eps = torch.randn(batch, *x_0.shape[1:], generator=generator, dtype=x_0.dtype)
            x_t = scheduler.add_noise(x_0.expand_as(eps), eps, t)
            loss = F.mse_loss(eps_of(pipeline, x_t, t, embedding.expand(batch, -1, -1)), eps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return embedding.detach(), {name: weight.detach() for name, weight in unet.named_parameters()}
