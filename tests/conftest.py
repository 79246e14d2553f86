"""The fixtures `chromium` and `bubblewrap`: programs a test needs that are not Python packages.

Where such a program is missing, its tests are deselected and named at the end of the run; where CI is set
they fail.
"""

import os

import pytest

from tools.programs import PROGRAMS, required

LEFT_OUT = pytest.StashKey[dict[str, list[str]]]()


def _path(name: str) -> str:
    program = PROGRAMS[name]
    path = program.find()
    if path is None:
        pytest.fail(program.complaint, pytrace=False)
    return path


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium or Chrome. Start it with `tools.programs.BROWSER_ARGS`."""
    return _path("chromium")


@pytest.fixture(scope="session")
def bubblewrap() -> str:
    """The path of a bubblewrap that works here."""
    return _path("bubblewrap")


@pytest.fixture(scope="session")
def outside() -> dict[str, str]:
    """The environment for a pytest of its own within a test."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if required():
        return
    for name in [name for name, program in PROGRAMS.items() if program.find() is None]:
        needing = [item for item in items if name in getattr(item, "fixturenames", ())]
        if needing:
            config.hook.pytest_deselected(items=needing)
            config.stash[LEFT_OUT][name] = [item.nodeid for item in needing]
            items[:] = [item for item in items if item not in needing]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Under xdist only the workers collect; take over what they left out."""
    node.config.stash[LEFT_OUT].update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash[LEFT_OUT]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, tests in config.stash[LEFT_OUT].items():
        terminalreporter.section(f"LEFT OUT: {len(tests)} tests", sep="!", red=True, bold=True)
        terminalreporter.line(PROGRAMS[name].complaint)
        for test in tests:
            terminalreporter.line(f"  {test}")
