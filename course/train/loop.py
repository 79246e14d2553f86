"""A training run that survives being killed, on one process or several."""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from course.core.training import Average, fit, warmup_stable_decay

Batch = dict[str, Tensor]


def generator_for(seed: int, step: int) -> torch.Generator:
    """The randomness of one step, the same whether a run was interrupted or not."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def share(batch: Batch, accelerator: Accelerator) -> Batch:
    """This process's part of a batch: of n processes, process i takes the i-th n-th."""
    n, i = accelerator.num_processes, accelerator.process_index
    size = len(next(iter(batch.values())))
    if size % n:
        raise ValueError(f"a batch of {size} cannot be shared by {n} processes: choose a multiple of {n}")
    part = slice(i * size // n, (i + 1) * size // n)
    return {name: value[part].to(accelerator.device) for name, value in batch.items()}


class Run:
    """Trains `model`, whose forward takes a batch and returns its loss, and keeps a checkpoint in `folder`.

    batch(step) makes the whole batch of a step; the same step always gives the same batch.
    prepare: what each process does to its own share of the batch before the model takes it.
    optimizer: AdamW unless given; its state is tensors named exp_avg, exp_avg_sq, step.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        batch: Callable[[int], Batch],
        folder: Path,
        *,
        steps: int,
        lr: float,
        decay: float = 0.4,
        weight_decay: float = 0.01,
        average: float = 0.999,
        every: float = 120.0,
        optimizer: torch.optim.Optimizer | None = None,
        prepare: Callable[[Batch], Batch] = lambda batch: batch,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.name, self.batch, self.steps, self.lr, self.decay, self.every = (
            name,
            batch,
            steps,
            lr,
            decay,
            every,
        )
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.path, self.log = folder / f"{name}.safetensors", folder / f"{name}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.model = model
        self.trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if optimizer is None:
            optimizer = torch.optim.AdamW(
                self.trained.values(), lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay
            )
        self.prepare = prepare
        self.wrapped, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.state = optimizer.state  # only now: `prepare` put another in its place
        self.average = Average(self.trained.values(), average)
        self.step = 0
        if self.path.exists():
            self._restore()

    def _restore(self) -> None:
        with safe_open(self.path, "pt") as file:
            saved = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.step = int(file.metadata()["step"])
        with torch.no_grad():
            for i, (name, weight) in enumerate(self.trained.items()):
                weight.copy_(saved[f"weight.{name}"])
                self.average.weights[i].copy_(saved[f"average.{name}"])
                self.state[weight] = {
                    key: saved[f"{key}.{name}"].to(weight.device if key != "step" else "cpu")
                    for key in ("exp_avg", "exp_avg_sq", "step")
                    if f"{key}.{name}" in saved
                }
        self.average.steps = self.step
        self._trim_log()

    def _trim_log(self) -> None:
        """Forget what was logged after the checkpoint: it is done again."""
        if self.log.exists():
            lines = [line for line in self.log.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            self.log.write_text("".join(f"{line}\n" for line in kept))

    def save(self) -> None:
        """Write the checkpoint aside, then put it in place."""
        if not self.accelerator.is_main_process:
            return
        tensors = {}
        for i, (name, weight) in enumerate(self.trained.items()):
            tensors[f"weight.{name}"] = weight.detach()
            tensors[f"average.{name}"] = self.average.weights[i]
            tensors |= {f"{key}.{name}": value for key, value in self.state[weight].items()}
        aside = self.path.with_suffix(".part")
        save_file(
            {k: v.contiguous().cpu() for k, v in tensors.items()}, aside, metadata={"step": str(self.step)}
        )
        aside.replace(self.path)

    def _batches(self) -> Iterator[Batch]:
        for step in range(self.step, self.steps):
            yield self.prepare(share(self.batch(step), self.accelerator))

    def train(self, show: Callable[[str], Any] = print) -> None:
        """Train from the checkpoint to the last step, then leave the averaged weights in the model."""
        schedule = warmup_stable_decay(self.steps, decay=self.decay)
        progress = fit(
            lambda batch: self.wrapped(**batch),
            self._batches(),
            self.trained.values(),
            self.lr,
            schedule=schedule,
            optimizer=self.optimizer,
            start=self.step,
            backward=self.accelerator.backward,
        )
        began = saved = shown = time.monotonic()
        first, losses = self.step, []
        for done in progress:
            self.step = done.step
            losses.append(done.loss)
            self.average.update(self.trained.values())
            now = time.monotonic()
            if now - shown > 10 or done.step == self.steps:
                mean, rate = math.fsum(losses) / len(losses), (done.step - first) / (now - began)
                self._report(done.step, mean, done.lr, rate, show)
                shown, losses = now, []
            if now - saved > self.every:
                self.save()
                saved = now
        self.save()
        self.average.copy_to(self.trained.values())

    def _report(self, step: int, loss: float, lr: float, rate: float, show: Callable[[str], Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        left = (self.steps - step) / max(rate, 1e-9) / 60
        show(
            f"{self.name}  step {step}/{self.steps}  loss {loss:.4f}  {rate:.1f} steps/s  {left:.0f} min left"
        )
        with self.log.open("a") as file:
            file.write(
                json.dumps({"step": step, "loss": round(loss, 6), "lr": lr, "time": round(time.time())})
                + "\n"
            )
