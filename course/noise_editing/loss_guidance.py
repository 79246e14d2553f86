"""Guide a sampler by the slope of any loss, such as the distance to a text in CLIP's space."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from course.core.sampling import Denoiser
from course.core.schedule import Schedule

Loss = Callable[[Tensor], Tensor]  # of the predicted x_0 [b ...]; of what it returns, the sum falls


def descending(denoise: Denoiser, loss: Loss, schedule: Schedule) -> Denoiser:
    """A denoiser whose samples have a low loss: eps + noise(t) * d loss(x_0) / d x_t, x_0 as eps predicts it.

    Dhariwal and Nichol 2021, arXiv:2105.05233, Algorithm 2, with Blended Diffusion's loss (arXiv:2111.14818,
    section 3). The weight of the guidance is a factor within the loss. The slope passes through the model.
    The authors' code shifts the mean of the step instead, and asks the loss about a mixture of x_0 and x_t.
    """

    def denoise_lower(x_t: Tensor, t: int) -> Tensor:
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            eps = denoise(x_t, t)
            x_0 = (x_t - schedule.noise(t) * eps) / schedule.signal(t)
            (slope,) = torch.autograd.grad(loss(x_0).sum(), x_t)
        return eps.detach() + schedule.noise(t) * slope

    return denoise_lower


def spherical_distance(a: Float[Tensor, "*b d"], b: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """Half the squared angle between vectors, 0 to pi^2 / 2: Blended Diffusion's loss on CLIP embeddings."""
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    # atan2 keeps the slope finite where arcsin's is not, at opposite vectors.
    half = torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))
    return 2 * half**2
