"""The lists of dependencies agree: pyproject.toml is the one that counts."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools.notebooks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
DISTRIBUTIONS = packages_distributions()
FOLDERS = ("course", "benchmarks", "tests", "tools")
OWN = canonicalize_name(PROJECT["name"])
LINES = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text("utf8").splitlines()]
PINS = {canonicalize_name(line.split("==")[0]): line for line in LINES if line}
OPTIONAL = PROJECT["optional-dependencies"]
DIRECT = {
    canonicalize_name(requirement.name): requirement
    for requirement in map(Requirement, [*PROJECT["dependencies"], *chain(*OPTIONAL.values())])
    if canonicalize_name(requirement.name) != OWN
}


def test_environment_yml_is_python_pip_and_the_editable_install():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf8"))
    python, *rest = environment["dependencies"]
    assert rest == ["pip", {"pip": ["-e .[all]"]}]
    assert canonicalize_name(environment["name"]) == OWN
    name, version = python.split("=")
    assert name == "python" and version in SpecifierSet(PROJECT["requires-python"])


def test_the_lowest_python_is_the_one_everything_is_checked_for():
    lowest = re.search(r"\d+\.\d+", PROJECT["requires-python"])[0]
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["tool"]
    assert tools["mypy"]["python_version"] == lowest
    assert tools["ruff"]["target-version"] == "py" + lowest.replace(".", "")
    assert f"sys.version_info < ({lowest.replace('.', ', ')})" in (ROOT / "Makefile").read_text("utf8")


@pytest.mark.parametrize("name", sorted(DIRECT))
def test_every_direct_dependency_has_a_range_and_a_pin_within_it(name):
    assert DIRECT[name].specifier, f"{name} needs a range"
    version = PINS[name].split("==")[1]
    assert DIRECT[name].specifier.contains(version), f"{version} lies outside {DIRECT[name].specifier}"


def test_every_constraint_is_an_exact_pin():
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in PINS.values()), PINS


def test_the_extra_all_holds_every_other_extra():
    (everything,) = map(Requirement, OPTIONAL["all"])
    assert canonicalize_name(everything.name) == OWN
    assert everything.extras == set(OPTIONAL) - {"all"}


def test_nothing_names_torchvision():
    assert "torchvision" not in DIRECT and "torchvision" not in PINS
    assert "torchvision" not in (ROOT / "environment.yml").read_text("utf8")
    assert "torchvision" not in set().union(*map(imported, FOLDERS))


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_import_is_a_direct_dependency(folder):
    """A package that only comes along with another may go with it too."""
    own = {*FOLDERS, *(path.stem for path in (ROOT / folder).rglob("*.py"))}
    outside = imported(folder) - set(sys.stdlib_module_names) - own
    installed = {name: {*map(canonicalize_name, DISTRIBUTIONS.get(name, []))} for name in outside}
    assert [name for name in outside if not installed[name] & DIRECT.keys()] == []


def imported(folder: str) -> set[str]:
    """The top-level names that the Python files below a folder import."""
    names: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names
