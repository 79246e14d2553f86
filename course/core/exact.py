"""Denoisers whose answer is exact, because their data have a formula: no weights, no training, no error.

The best guess of x_0 from x_t, in mean square, is the posterior mean E[x_0 | x_t], and the best guess of eps
is (x_t - signal * E[x_0 | x_t]) / noise: one answer in two forms. Both have a closed form for Gaussians, for
mixtures of them, and for any finite set of pictures.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from course.core.sampling import Denoiser
from course.core.schedule import Schedule


def gaussian(schedule: Schedule, mean: Tensor | float, variance: Tensor | float) -> Denoiser:
    """The exact denoiser of data whose entries are drawn from N(mean, variance), each by itself.

    mean, variance: numbers, or tensors that broadcast to x_t. Raises ValueError for a negative variance.
    """
    _check_variance(variance)

    def denoise(x_t: Tensor, t: int) -> Tensor:
        signal, noise = schedule.signal(t), schedule.noise(t)
        return noise * (x_t - signal * mean) / (signal**2 * variance + noise**2)

    return denoise


def mixture(
    schedule: Schedule,
    means: Float[Tensor, " k *shape"],
    variance: float = 0.0,
    weights: Float[Tensor, " k"] | None = None,
) -> Denoiser:
    """The exact denoiser of a mixture of k Gaussians of one variance; at variance 0, of the k points alone.

    weights: how often each is drawn, equally often where none are given. With no variance this is what a
    perfect network would answer that had learnt the training set `means` by heart.
    Raises ValueError for a negative variance, wrong weights, and at a time that has no noise.
    """
    shares = responsibilities(schedule, means, variance, weights)

    def denoise(x_t: Tensor, t: int) -> Tensor:
        centre = (shares(x_t, t).to(x_t) @ means.to(x_t).flatten(1)).view_as(x_t)
        signal, noise = schedule.signal(t), schedule.noise(t)
        return noise * (x_t - signal * centre) / (signal**2 * variance + noise**2)

    return denoise


def responsibilities(
    schedule: Schedule,
    means: Float[Tensor, " k *shape"],
    variance: float = 0.0,
    weights: Float[Tensor, " k"] | None = None,
) -> Callable[[Tensor, int], Tensor]:
    """A function (x_t, t) -> [b k]: how probably each x_t came from each component. Bayes' rule, in float64.

    Raises as `mixture` does.
    """
    _check_variance(variance)
    # float64: in a picture, differences between sums of ten thousand squares decide.
    log_weights, m = _log_weights(weights, len(means)), means.double().flatten(1)
    lengths = m.square().sum(1)

    def shares(x_t: Tensor, t: int) -> Tensor:
        if x_t.shape[1:] != means.shape[1:]:
            raise ValueError(f"x_t {list(x_t.shape)} and means {list(means.shape)} differ behind the batch")
        signal, noise = schedule.signal(t), schedule.noise(t)
        spread = signal**2 * variance + noise**2
        if spread == 0:
            raise ValueError(f"there is no noise to predict at time {t}: ask at a time from 0 on")
        x = x_t.double().flatten(1)
        # Minus half the squared distance, less |x_t|^2, which is the same for all components.
        near = signal * (x @ m.to(x).T) - signal**2 * lengths.to(x) / 2
        return (log_weights.to(x) + near / spread).softmax(1)

    return shares


def draw(
    means: Float[Tensor, " k *shape"], variance: float, n: int, generator: torch.Generator
) -> Float[Tensor, " n *shape"]:
    """n samples of the mixture of equal weights: data for a network to compare with the exact answer."""
    _check_variance(variance)
    chosen = torch.randint(len(means), (n,), generator=generator)
    return means[chosen] + variance**0.5 * torch.randn(n, *means.shape[1:], generator=generator).to(means)


def _check_variance(variance: Tensor | float) -> None:
    if not (torch.as_tensor(variance) >= 0).all():
        raise ValueError(f"a variance must not be negative, got {variance}")


def _log_weights(weights: Tensor | None, k: int) -> Tensor:
    if weights is None:
        return torch.full((k,), 1 / k, dtype=torch.float64).log()
    if weights.shape != (k,) or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(f"weights must be {k} numbers from 0 on, not all 0, got {weights.tolist()}")
    return (weights.double() / weights.sum()).log()
