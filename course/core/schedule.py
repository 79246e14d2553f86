"""How much signal and how much noise is left at each time, and the times a sampler visits.

    x_t = signal(t) * x_0 + noise(t) * eps,    signal(t)^2 + noise(t)^2 = 1    (DDPM, arXiv:2006.11239, Eq. 4)

The names of the whole course:

    x_t, x_0, eps     noisy latents, clean latents, (predicted) noise
    t, s              a time, an int in 0 .. T-1, and the time that follows it; CLEAN = -1 is the time of x_0
    alpha_bar         the papers' alpha-bar_t; diffusers says alphas_cumprod
    text, null        embeddings [b tokens dim] of the prompt, and of the empty or negative prompt
    guidance_scale    1 = no guidance (Ho and Salimans' w is guidance_scale - 1)
    strength          share of the walk that is redone, in (0, 1]
    mask              [b 1 h w] in {0, 1}; 1 = may change
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import cos, pi
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

CLEAN = -1

PREDICTIONS = ("epsilon", "v_prediction")
SPACINGS = ("leading", "trailing", "linspace")


@dataclass(frozen=True, eq=False)
class Schedule:
    """A variance-preserving noise schedule and its spacing of times, as a scheduler config states them.

    alpha_bar [T] falls from nearly 1 towards 0. final_alpha_bar is the level of CLEAN: 1, or alpha_bar[0]
    where the config says set_alpha_to_one=False, as Stable Diffusion's does: a trace of noise (0.03) is left.
    """

    alpha_bar: Float[Tensor, " T"]
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    spacing: Literal["leading", "trailing", "linspace"] = "leading"
    steps_offset: int = 0
    final_alpha_bar: float = 1.0

    def __post_init__(self) -> None:
        levels = [self.final_alpha_bar, *self.alpha_bar.tolist()]
        if (
            len(levels) < 2
            or not all(0 < level <= 1 for level in levels)
            or levels != sorted(levels, reverse=True)
        ):
            raise ValueError(
                "alpha_bar must fall within (0, 1], from final_alpha_bar on; at 0 no signal is left to edit"
            )
        if self.prediction_type not in PREDICTIONS:
            raise ValueError(f"prediction_type must be one of {PREDICTIONS}, got {self.prediction_type!r}")
        if self.spacing not in SPACINGS:
            raise ValueError(f"spacing must be one of {SPACINGS}, got {self.spacing!r}")
        if not 0 <= self.steps_offset < len(self.alpha_bar):
            raise ValueError(f"steps_offset must be in 0..{len(self.alpha_bar) - 1}, got {self.steps_offset}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Schedule":
        """The schedule of a diffusers scheduler config; a missing key has DDIMScheduler's default.

        clip_sample and thresholding are ignored: latents have no range to clip to.
        Raises ValueError for an unknown beta_schedule, prediction_type or spacing, and for zero terminal SNR.
        """
        if config.get("rescale_betas_zero_snr"):
            raise ValueError(
                "rescale_betas_zero_snr=True leaves no signal at the last time, where eps cannot tell x_0: "
                "use a checkpoint whose scheduler config says False"
            )
        alpha_bar = torch.cumprod(1 - _betas(config), dim=0)
        return cls(
            alpha_bar,
            prediction_type=config.get("prediction_type", "epsilon"),
            spacing=config.get("timestep_spacing", "leading"),
            steps_offset=config.get("steps_offset", 0),
            final_alpha_bar=1.0 if config.get("set_alpha_to_one", True) else float(alpha_bar[0]),
        )

    @overload
    def signal(self, t: int) -> float: ...
    @overload
    def signal(self, t: Tensor) -> Tensor: ...
    def signal(self, t: int | Tensor) -> float | Tensor:
        """Factor on x_0, sqrt(alpha_bar_t): a number, or float64 [b 1 1 1] for a tensor of b times."""
        return self._signals[self._checked(t)] if isinstance(t, int) else _at(self._levels, t).sqrt()

    @overload
    def noise(self, t: int) -> float: ...
    @overload
    def noise(self, t: Tensor) -> Tensor: ...
    def noise(self, t: int | Tensor) -> float | Tensor:
        """Factor on eps, sqrt(1 - alpha_bar_t): a number, or float64 [b 1 1 1] for a tensor of b times."""
        return self._noises[self._checked(t)] if isinstance(t, int) else (1 - _at(self._levels, t)).sqrt()

    def add_noise(self, x_0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
        """x_t, shaped as x_0; t is one time, or [b] times of the batch's rows.

        At CLEAN this is x_0 only where final_alpha_bar is 1.
        """
        signal, noise = _like(self.signal(t), x_0), _like(self.noise(t), x_0)
        return signal * x_0 + noise * eps

    def to_eps(self, output: Tensor, x_t: Tensor, t: int | Tensor) -> Tensor:
        """The noise that a network's output stands for: itself, or signal * v + noise * x_t.

        Salimans and Ho 2022, arXiv:2202.00512, appendix D: v = signal * eps - noise * x_0.
        """
        if self.prediction_type == "epsilon":
            return output
        signal, noise = _like(self.signal(t), x_t), _like(self.noise(t), x_t)
        return signal * output + noise * x_t

    def times(self, steps: int) -> list[int]:
        """`steps` + 1 falling times, from the noisiest down to CLEAN; spacings of arXiv:2305.08891, Table 2.

        The times of diffusers' DDIMScheduler, less the -1 that rounding adds to some of its trailing lists.
        diffusers then steps from t to t - T // steps, which under trailing and linspace spacing need not be
        the next time; our samplers go to the next time.
        Raises ValueError for steps outside 1..T, and where steps_offset moves the first time beyond T-1.
        """
        T = len(self.alpha_bar)
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= T:
            raise ValueError(f"steps must be a whole number in 1..{T}, got {steps!r}")
        if self.spacing == "linspace":
            times: np.ndarray = np.linspace(0, T - 1, steps).round()[::-1]
        elif self.spacing == "leading":
            times = np.arange(steps)[::-1] * (T // steps) + self.steps_offset
        else:  # arange may add a last time of about 0 by rounding
            times = np.round(np.arange(T, 0, -T / steps))[:steps] - 1
        if times[0] >= T:
            raise ValueError(
                f"{steps} steps with steps_offset {self.steps_offset} start beyond {T - 1}: take fewer steps"
            )
        return [*(int(t) for t in times), CLEAN]

    @cached_property
    def _levels(self) -> Tensor:
        # CLEAN = -1 finds its level in the last place, as any negative index does.
        levels = self.alpha_bar.double()
        return torch.cat([levels, levels.new_tensor([self.final_alpha_bar])])

    # Plain numbers: a sampling step then reads no tensor, so that a GPU need not wait for it.
    @cached_property
    def _signals(self) -> list[float]:
        return self._levels.sqrt().tolist()

    @cached_property
    def _noises(self) -> list[float]:
        return (1 - self._levels).sqrt().tolist()

    def _checked(self, t: int) -> int:
        if not CLEAN <= t < len(self.alpha_bar):
            raise ValueError(f"a time is in 0..{len(self.alpha_bar) - 1}, or CLEAN = {CLEAN}; got {t}")
        return t


def _betas(config: Mapping[str, Any]) -> Float[Tensor, " T"]:
    """The config's betas, in float64: float32 loses digits in a product of a thousand factors."""
    if config.get("trained_betas") is not None:
        return torch.as_tensor(np.asarray(config["trained_betas"], dtype=np.float64))
    T, name = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    first, final = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    if name == "linear":
        return torch.linspace(first, final, T, dtype=torch.float64)
    if name == "scaled_linear":
        return torch.linspace(first**0.5, final**0.5, T, dtype=torch.float64) ** 2
    if name == "squaredcos_cap_v2":
        level = [cos((i / T + 0.008) / 1.008 * pi / 2) ** 2 for i in range(T + 1)]
        return torch.tensor([min(1 - level[i + 1] / level[i], 0.999) for i in range(T)], dtype=torch.float64)
    known = ("linear", "scaled_linear", "squaredcos_cap_v2")
    raise ValueError(f"beta_schedule must be one of {known}, got {name!r}")


def _at(levels: Tensor, t: Tensor) -> Tensor:
    return levels.to(t.device)[t][:, None, None, None]


def _like(factor: float | Tensor, x: Tensor) -> float | Tensor:
    return factor.to(x) if isinstance(factor, Tensor) else factor
