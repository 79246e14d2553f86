"""The model card: written anew without measuring anew."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from course.train import report

SHIPPED = Path(report.__file__).parents[1] / "weights"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "weights", copy_function=os.link))


def test_the_shipped_card_is_what_the_code_writes(weights, tmp_path):
    report.write(weights, tmp_path / "no logs", prompts=0)
    for name in ("README.md", "scores.json"):
        assert (weights / name).read_text() == (SHIPPED / name).read_text()


def test_a_stage_that_was_trained_again_is_entered_and_the_others_stay(weights, tmp_path):
    logs, picture = tmp_path / "logs", (weights / "losses.png").read_bytes()
    logs.mkdir()
    (logs / "refinement.jsonl").write_text('{"step": 10, "loss": 2.0}\n{"step": 12, "loss": 1.0}\n')
    save_file({"weight": torch.zeros(2)}, weights / "refinement" / "more.safetensors")
    report.write(weights, logs, prompts=0)
    before, after = (json.loads((each / "scores.json").read_text()) for each in (SHIPPED, weights))
    assert after["steps"] == before["steps"] | {"refinement": 12} != before["steps"]
    assert after["figures"] == before["figures"]
    old, new = (set((each / "README.md").read_text().splitlines()) for each in (SHIPPED, weights))
    assert len(old - new) == 1 and any("refinement 12," in line for line in new - old)
    assert any(line.startswith("| `refinement/more.safetensors` |") for line in new - old)
    assert len(new - old) == 2
    assert (weights / "losses.png").read_bytes() == picture, "it shows all stages, or stays as it was"


def test_without_scores_it_has_to_measure(weights, tmp_path):
    (weights / "scores.json").unlink()
    with pytest.raises(FileNotFoundError, match="measure first"):
        report.write(weights, tmp_path, prompts=0)
