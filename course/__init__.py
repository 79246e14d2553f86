"""Edit, personalise and re-use diffusion models, offline, with code that also runs on Stable Diffusion.

from course import load
model = load()            # the sticker model, inside this package
model = load("path/or/hub-name-of-stable-diffusion")
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load"]

if TYPE_CHECKING:
    from course.core.model import load


def __getattr__(name: str) -> Any:
    """`load`, imported when it is first asked for: diffusers takes seconds, which others need not wait."""
    if name == "load":
        from course.core.model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
