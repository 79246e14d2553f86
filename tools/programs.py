"""The two programs the checks use that are not Python packages, and what to do where they are missing.

On a reader's machine what needs a missing program is left out, loudly; where the environment variable CI is
set it fails. Run as `python -m tools.programs` it prints what this machine cannot check.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
BROWSER_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@cache
def find_chromium() -> str | None:
    """The path of a Chromium or Chrome, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@cache
def find_bubblewrap() -> str | None:
    """The path of a bubblewrap that may make namespaces here (some machines forbid it), or None."""
    path = shutil.which("bwrap")
    if path is None:
        return None
    trial = subprocess.run([path, "--ro-bind", "/", "/", "--unshare-all", "true"], capture_output=True)
    return path if trial.returncode == 0 else None


@dataclass(frozen=True)
class Program:
    """A program, what is checked with it, and how to get it."""

    name: str
    find: Callable[[], str | None]
    used_for: str
    remedy: str

    @property
    def complaint(self) -> str:
        return f"no working {self.name}, so not checked: {self.used_for}. {self.remedy}"


PROGRAMS = {
    "chromium": Program(
        "chromium",
        find_chromium,
        "the site and the widgets in a real browser",
        "Install Chromium or Chrome (Debian and Ubuntu: apt-get install chromium).",
    ),
    "bubblewrap": Program(
        "bubblewrap",
        find_bubblewrap,
        "that a hostile submission cannot leave its sandbox",
        "Install bubblewrap (Debian and Ubuntu: apt-get install bubblewrap) and allow user namespaces.",
    ),
}


def missing() -> list[Program]:
    """The programs that this machine lacks."""
    return [program for program in PROGRAMS.values() if program.find() is None]


def required() -> bool:
    """Whether a missing program is a failure: where CI is set to anything but an empty string, 0 or false."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def main() -> int:
    lacking = missing()
    for program in lacking:
        print(f"\n{'!' * 100}\nLEFT OUT: {program.complaint}\n{'!' * 100}")
    if not lacking:
        print("Everything was checked: nothing was left out.")
    return 1 if lacking and required() else 0


if __name__ == "__main__":
    raise SystemExit(main())
