"""The environment of every test run, and what makes nbval a check of the notebooks rather than a formality.

nbval alone runs the cells. Seven traps of it are closed here; nothing else touches its internals.

1. `;` at the end of a cell silences its output again (nbval keeps no history, and IPython then ignores it).
2. A loaded machine may take longer than five seconds to hand over a cell's outputs.
3. The tag `timeout-N` gives one cell N seconds of its own.
4. A cell tagged `raises-exception` must raise; nbval passes it when nothing is raised.
5. After a cell has failed, the rest of its notebook is not run on a broken state.
6. xdist may only hand out whole notebooks: cells of one notebook on two kernels fail for no fault of theirs.
7. `--nb-dump` keeps the executed notebook, so that nothing has to run it twice: only when every cell has
   passed, never half a file, and marked with what it was made from.
"""

import json
import os
import re
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two workers share two cores
os.environ["HF_HUB_OFFLINE"] = "1"  # the course needs no network, and a test that asks for it must fail

import nbformat
import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell

from tools import notebooks

OUTPUT_TIMEOUT = 120  # seconds
STARTED, FAILED, RUN = pytest.StashKey[float](), pytest.StashKey[int](), pytest.StashKey[int]()


def _execute(self: RunningKernel, cell_input: str, allow_stdin: bool | None = None) -> str:
    return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


RunningKernel.execute_cell_input = _execute


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nb-dump", default=None, metavar="DIR", help="folder for the executed notebooks")


def pytest_configure(config: pytest.Config) -> None:
    if not (config.option.nbval or config.option.nbval_lax):
        return
    if config.getoption("numprocesses", None) and config.option.dist not in ("loadfile", "loadscope"):
        raise pytest.UsageError("the cells of a notebook share a kernel: use --dist loadfile")
    os.environ["COURSE_BUILD"] = str(config.rootpath / "build")  # the kernels record their claims there


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not isinstance(item, IPyNbCell):
        return
    item.parent.stash.setdefault(STARTED, time.perf_counter())
    if FAILED in item.parent.stash:
        pytest.skip(f"cell {item.parent.stash[FAILED]} of this notebook failed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    if not isinstance(item, IPyNbCell):
        return (yield)
    item.output_timeout = OUTPUT_TIMEOUT
    option = item.config.option
    default = option.nbval_cell_timeout
    for tag in item.cell.metadata.get("tags", []):
        if match := re.fullmatch(r"timeout-(\d+)", tag):
            option.nbval_cell_timeout = float(match[1])
    try:
        result = yield
    finally:
        option.nbval_cell_timeout = default
    if item.options["check_exception"] and not any(o.output_type == "error" for o in item.test_outputs):
        item.raise_cell_error("tagged raises-exception, but nothing was raised")
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Generator[None, Any, Any]:
    report = yield
    if isinstance(item, IPyNbCell):
        stash = item.parent.stash
        if call.when == "call" and report.passed:
            stash[RUN] = stash.get(RUN, 0) + 1
        elif report.failed or hasattr(report, "wasxfail"):  # so nbval marks what follows a timeout
            stash.setdefault(FAILED, item.cell_num)
    return report


def pytest_runtest_teardown(item: pytest.Item) -> None:
    folder = item.config.getoption("--nb-dump")
    if folder and isinstance(item, IPyNbCell):
        code_cells = sum(cell.cell_type == "code" for cell in item.parent.nb.cells)
        if item.parent.stash.get(RUN, 0) == code_cells:
            _dump(item, item.config.rootpath / folder)


def _dump(last: IPyNbCell, folder: Path) -> None:
    """Write the notebook of which `last` is the last cell, with its outputs, aside and then in place."""
    source, notebook = Path(last.parent.path), last.parent.nb
    cells = [item for item in last.session.items if item.parent is last.parent]
    for number, item in enumerate(cells, 1):
        outputs = [nbformat.from_dict(dict(output)) for output in item.test_outputs or []]
        for output in outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
        item.cell.outputs, item.cell.execution_count = outputs, number
    seconds = round(time.perf_counter() - last.parent.stash[STARTED], 1)
    root = last.config.rootpath
    notebook.metadata["course"] = {"fingerprint": notebooks.fingerprint(source, root), "seconds": seconds}
    target = folder / source.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(".partial")
    nbformat.write(notebook, aside)
    aside.replace(target)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Gather the notebooks' times in one file, from the controlling process only."""
    folder = session.config.getoption("--nb-dump")
    if not folder or hasattr(session.config, "workerinput"):
        return
    folder = session.config.rootpath / folder
    copies = {path: json.loads(path.read_text("utf8")) for path in sorted(folder.rglob("*.ipynb"))}
    times = {
        path.relative_to(folder).as_posix(): copy["metadata"]["course"]["seconds"]
        for path, copy in copies.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "times.json").write_text(json.dumps(times, indent=1) + "\n", "utf8")
