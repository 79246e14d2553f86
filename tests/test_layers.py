"""Arrows point down: core imports core, a chapter imports core, and nobody looks sideways."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "course").rglob("*.py"))
# Outside the chapters. The tools stand beside them: notebooks, the command line and teachers use them.
KNOWS_STICKERS = {"world", "figures", "train", "compare"}
TOOLS = {"figures", "widgets", "claims", "train", "grading", "compare"}
BANNED = {
    "cuda": "device is an argument: x.to(device)",
    "manual_seed": "randomness is an argument: a torch.Generator",
    "manual_seed_all": "randomness is an argument: a torch.Generator",
}


def room(module: str) -> str:
    """The room of a module: core in course.core.schedule, "" in course itself."""
    return [*module.split("."), ""][1]


def name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, me: str, is_package: bool) -> set[str]:
    """Every module of the course that a file imports, relatively and inside functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = me.split(".")[: len(me.split(".")) - node.level + is_package] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            # `from course import world` imports course.world
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "course" else {module}
    return {module for module in found if module.split(".")[0] == "course"}


def faults(source: str, me: str, is_package: bool = False) -> list[str]:
    """What is wrong with one file, in words."""
    tree, mine, wrong = ast.parse(source), room(me), []
    for module in sorted(imports(tree, me, is_package)):
        other = room(module)
        if other == "world" and mine not in KNOWS_STICKERS:
            wrong.append(f"{me} imports {module}: only {sorted(KNOWS_STICKERS)} and notebooks know stickers")
        elif other not in ("core", mine, "world") and mine not in (*TOOLS, "") and other not in ("", "load"):
            wrong.append(f"{me} imports {module}: {mine} may import core, and its own room")
        elif other in ("", "load") and mine not in TOOLS and module != me:
            wrong.append(f"{me} imports {module}: name the module, as in course.core.model")
        elif mine == "" and other != "core":
            wrong.append(f"{me} imports {module}: the package's door opens core only")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = node.func.attr
            if called in BANNED and not (mine == "train" and called != "cuda"):
                wrong.append(f"{me}:{node.lineno} calls .{called}(): {BANNED[called]}")
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
            wrong.append(f"{me}:{node.lineno} uses torch.load, which runs what a pickle says: safetensors")
        if isinstance(node, ast.Import) and {alias.name for alias in node.names} & {"pickle", "torchvision"}:
            wrong.append(f"{me}:{node.lineno}: neither pickle nor torchvision")
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "torch"
            and "load" in {a.name for a in node.names}
        ):
            wrong.append(f"{me}:{node.lineno} imports torch.load, which runs what a pickle says: safetensors")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_down(path: Path) -> None:
    assert not faults(path.read_text(encoding="utf-8"), name(path), path.name == "__init__.py")


def test_there_are_files_to_look_at() -> None:
    assert {"course", "course.core.schedule", "course.core.model"} <= set(map(name, FILES))


@pytest.mark.parametrize(
    ("me", "source"),
    [
        ("course.core.schedule", "from course.inversion.ddib import ddib"),
        ("course.core.schedule", "import course.world"),
        ("course.core.schedule", "from ..world import scene"),
        ("course.core.schedule", "from course import load"),
        ("course.core.model", "def f():\n    from course.figures import grid"),
        ("course.noise_editing.sdedit", "from course.inversion.ddib import ddib"),
        ("course.noise_editing.sdedit", "from course import inversion"),
        ("course.noise_editing.sdedit", "from course.world.scene import Scene"),
        ("course.noise_editing.sdedit", "from course.figures import grid"),
        ("course.world.scene", "from course.noise_editing.sdedit import sdedit"),
        ("course.widgets", "from course.world.scene import Scene"),
        ("course", "from course.world.scene import Scene"),
        ("course.core.model", "x.cuda()"),
        ("course.train.unet", "x.cuda()"),
        ("course.core.model", "torch.manual_seed(0)"),
        ("course.core.model", "torch.Generator().manual_seed(0)"),
        ("course.core.model", "torch.load(path)"),
        ("course.train.unet", "torch.load(path)"),
        ("course.core.model", "from torch import load"),
        ("course.core.model", "import pickle"),
    ],
)
def test_a_fault_is_seen(me: str, source: str) -> None:
    assert faults(source, me)


@pytest.mark.parametrize(
    ("me", "source"),
    [
        ("course.core.model", "from course.core.schedule import Schedule"),
        ("course.core.model", "from .schedule import Schedule"),
        ("course.core.model", "torch.cuda.is_available()"),
        ("course.noise_editing.sdedit", "from course.core.sampling import sample"),
        ("course.noise_editing.sdedit", "from course.noise_editing.blended import blend"),
        ("course.figures", "from course.world import Scene"),
        ("course.claims", "from course.figures import grid"),
        ("course.train.unet", "torch.Generator().manual_seed(0)"),
        ("course.train.unet", "from course.world import Scene"),
        ("course.world.recogniser", "from course.world.scene import Scene"),
        ("course", "from course.core.model import load"),
    ],
)
def test_what_is_allowed_is_let_pass(me: str, source: str) -> None:
    assert not faults(source, me)
