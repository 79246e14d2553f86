"""The box in which a submission runs: what it sees and what it is told.

With bubblewrap: no network, a read-only system, private /tmp and /dev/shm of limited size, no other process
in sight, an empty environment, and of the course nothing but the package `course`, which holds neither
solutions nor checks. Without it only the limits hold, and every report says so.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

import course
from course.grading.limits import Limits

PACKAGE = Path(course.__file__).resolve().parent
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/localtime",
]
NOBODY = 60600  # the first of a few user numbers that systemd leaves unused


@dataclass(frozen=True)
class Isolation:
    """Whether bubblewrap isolates, and if not, why.

    as_nobody: root has started us, and students' code runs as another user, whose processes the kernel
    counts.
    """

    program: str = ""
    as_nobody: bool = False
    reason: str = ""

    @property
    def on(self) -> bool:
        return bool(self.program)


def find_isolation(program: str | None = "bwrap") -> Isolation:
    """How to isolate here: bubblewrap is tried, not just looked for. None asks for no isolation."""
    if program is None:
        return Isolation(reason="it was switched off")
    if not sys.platform.startswith("linux") or (found := shutil.which(program)) is None:
        return Isolation(reason=f"bubblewrap ({program}) is not installed")
    reason = ""
    for as_nobody in [True, False] if os.geteuid() == 0 else [False]:
        isolation = Isolation(found, as_nobody)
        code = "import course.grading.worker; print('ready')"
        command = [*prefix(isolation, Limits()), sys.executable, "-P", "-c", code]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=120, env=environment("/tmp")
            )
        except subprocess.TimeoutExpired:
            reason = "bubblewrap did not start within two minutes"
            continue
        if done.stdout.strip() == "ready":
            return isolation
        reason = f"bubblewrap does not work here: {done.stderr.strip()[-300:]}"
    return Isolation(reason=reason)


def visible() -> list[Path]:
    """The folders, save the system's, that students' code may read: Python, its packages, `course`."""
    packages = [Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    wanted = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.base_prefix).resolve(), PACKAGE, *packages]
    found: list[Path] = []
    for path in sorted({path for path in wanted if path.is_dir()}, key=lambda path: len(path.parts)):
        if not any(path.is_relative_to(seen) for seen in [*found, Path("/usr")]):
            found.append(path)
    return found


def prefix(isolation: Isolation, limits: Limits) -> list[str]:
    """The words to put before a command so that it runs in the box; none where isolation is off."""
    if not isolation.on:
        return []
    if isolation.as_nobody:  # root's rights build the box; the worker then gives them up
        words = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        words = ["--unshare-all", "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    words += ["--die-with-parent", "--new-session", "--hostname", "box", "--proc", "/proc", "--dev", "/dev"]
    for private in ("/tmp", "/dev/shm"):
        words += ["--perms", "1777", "--size", str(limits.disk_mb * 2**20), "--tmpfs", private]
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    for setting in SETTINGS:
        words += ["--ro-bind-try", setting, setting]
    made = {Path("/"), Path("/usr"), Path("/tmp")}
    for folder in visible():
        for parent in reversed(folder.parents):  # bubblewrap itself would make them unreadable to nobody
            if parent not in made:
                words += ["--perms", "0755", "--dir", str(parent)]
                made.add(parent)
        words += ["--ro-bind", str(folder), str(folder)]
    return [isolation.program, *words, "--remount-ro", "/", "--remount-ro", "/dev", "--chdir", "/tmp", "--"]


def environment(home: str) -> dict[str, str]:
    """All that students' code is told of its surroundings."""
    threads = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
    folders = dict.fromkeys(("HOME", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME"), home)
    python = {"PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    rest = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1"}
    return {**threads, **folders, **python, **rest}


def settings(isolation: Isolation, limits: Limits) -> dict[str, float]:
    """What the worker is told, and takes on before any student's code runs."""
    uid = NOBODY + os.getpid() % 500 if isolation.as_nobody else 0
    mine = uid or os.getuid()
    tasks = limits.processes
    for process in psutil.process_iter(["uids", "num_threads"]):
        if process.info["uids"] and process.info["uids"].real == mine:
            tasks += process.info["num_threads"] or 1
    return {**asdict(limits), "uid": uid, "tasks": tasks}
