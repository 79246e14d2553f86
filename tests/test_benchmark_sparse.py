"""The benchmark of sparse inference counts and times what it says, on a network small enough for a test."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import sparse
from benchmarks.timing import race
from course.core.operations import Operations
from tests.core.tiny import as_model, tiny_pipeline


def test_the_network_has_stable_diffusion_s_shape_and_finite_answers() -> None:
    unet = sparse.sd15(0.05)
    assert unet.config.block_out_channels == [16, 32, 64, 64] and unet.config.layers_per_block == 2
    assert len(unet.attn_processors) == 32
    assert unet(torch.randn(1, 4, 8, 8), 500, torch.randn(1, 77, 768)).sample.isfinite().all()


def test_the_square_has_its_share() -> None:
    for share in sparse.SHARES:
        assert float(sparse.square(share, 64, 64).mean()) == pytest.approx(share, rel=0.15)
    assert sparse.square(0.01, 8, 8).sum() == 1


def test_each_share_is_counted_timed_and_compared(monkeypatch, tmp_path: Path, capsys) -> None:
    model = as_model(tiny_pipeline())
    monkeypatch.setattr(sparse, "load", lambda name: model)
    monkeypatch.setattr(sparse, "race", partial(counted_race, rounds_asked=(rounds := [])))
    page = tmp_path / "page.md"
    page.write_text("<!-- begin sparse -->old<!-- end sparse -->")
    sparse.main(["--networks", "stickers", "--json", str(tmp_path / "sparse.json"), "--markdown", str(page)])
    assert rounds == [20]
    (rows,) = json.loads((tmp_path / "sparse.json").read_text()).values()
    with Operations() as work:
        for _ in range(2):
            model.predict(torch.zeros(1, 4, 8, 8), 500, torch.zeros(1, model.tokens, 16))
    assert [row["edited"] for row in rows] == ["dense", "dense, and cached", "1%", "5%", "15%", "30%"]
    assert rows[0]["operations"] == work.total and rows[0]["fewer"] == rows[0]["faster"] == 1
    fewer = [row["fewer"] for row in rows[2:]]
    assert fewer == sorted(fewer, reverse=True) and fewer[0] > 1
    assert all(row["ms"] > 0 and len(row["seconds"]) == 1 and row["error"] > 0 for row in rows[2:])
    assert rows[2]["error"] < 1, "a sparse edit must be nearer to the dense one than the original is"
    table = capsys.readouterr().out
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1
    assert "MB for each step" in table and table.strip() in page.read_text() and "old" not in page.read_text()


def counted_race(ways, rounds, rounds_asked):
    rounds_asked.append(rounds)
    return race(ways, 1)
