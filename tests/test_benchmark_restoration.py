"""The benchmark of restoration counts the calls that the methods need, and writes its table."""

import json

import pytest

from benchmarks import job, restoration
from benchmarks.tiny import random_model

METHODS = ["Palette, colours", "Palette, a part filled in", "Stochastic refinement, a residual"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str]:
    folder = tmp_path_factory.mktemp("restoration")
    page = folder / "benchmarks.md"
    page.write_text("before\n<!-- begin restoration -->\nold\n<!-- end restoration -->\nafter\n")
    arguments = ["--tiny", "--rounds", "1", "--steps", "3", "--markdown", str(page)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "random_model", random_model)
        restoration.main([*arguments, "--json", str(folder / "restoration.json")])
    return json.loads((folder / "restoration.json").read_text("utf8")), page.read_text()


def test_each_asks_once_a_step(written: tuple[dict, str]) -> None:
    rows = written[0]["restoration"]
    assert [(row["job"], row["calls"], row["rows"]) for row in rows] == [(name, 3, 3) for name in METHODS]
    assert all(row["walk_ms"] > 0 < row["bare_ms"] for row in rows)


def test_the_page_gets_the_table(written: tuple[dict, str]) -> None:
    assert "old" not in written[1] and all(f"| {name} | 3 |" in written[1] for name in METHODS)
