"""The library's own source, shown in a lesson, so that readers see the code that runs."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Source:
    """Code that displays itself as highlighted Markdown, under the name it is imported by."""

    name: str
    code: str

    def _repr_markdown_(self) -> str:
        longest = max((len(run) for run in re.findall("`+", self.code)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"`{self.name}`\n\n{fence}python\n{self.code}\n{fence}"

    def __repr__(self) -> str:
        return f"# {self.name}\n{self.code}"


def source(*functions: Callable[..., Any] | type) -> Source:
    """The source of a function or class of a module (several: one after the other), read from its file now.

    Raises ValueError for what has no Python source.
    """
    if not functions:
        raise ValueError("there is no function to show: pass at least one")
    try:
        code = [inspect.cleandoc("\n" + inspect.getsource(inspect.unwrap(each))) for each in functions]
    except (OSError, TypeError) as error:
        raise ValueError(
            f"{functions} has no Python source: pass functions or classes of a module"
        ) from error
    names = [f"{each.__module__}.{each.__qualname__}" for each in functions]
    return Source(", ".join(names), "\n\n\n".join(code))
