"""A training run small enough to kill: `python tiny_run.py FOLDER STEPS SECONDS_A_STEP [adamw|muon]`."""

import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from course.train.loop import Run, generator_for
from course.train.muon import Muon


class Line(nn.Module):
    """Least squares."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.layer(x) - y).square().mean()


def main() -> None:
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    pause = float(sys.argv[3])
    torch.manual_seed(0)

    def batch(step: int) -> dict[str, Tensor]:
        time.sleep(pause)
        x = torch.randn(8, 4, generator=generator_for(1, step))
        return {"x": x, "y": x.sum(1, keepdim=True)}

    model = Line()
    muon = Muon([model.layer.weight], [model.layer.bias], 0.05) if "muon" in sys.argv else None
    run = Run("line", model, batch, folder, steps=steps, lr=0.05, every=0.2, optimizer=muon)
    print(f"from step {run.step}", flush=True)
    run.train(show=lambda text: None)
    if run.accelerator.is_main_process:
        save_file(model.state_dict(), folder / "final.safetensors")


if __name__ == "__main__":
    main()
