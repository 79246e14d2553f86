"""How much a submission may use."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one submission may use before it is stopped. All must be positive.

    cell_seconds and total_seconds are wall-clock: of one cell or one check, and of everything together.
    memory_mb holds for all its processes together; processes counts threads too, where the kernel counts.
    disk_mb holds for each of its private folders under bubblewrap, file_mb for one file anywhere.
    """

    cell_seconds: float = 60
    total_seconds: float = 600
    memory_mb: int = 2048
    processes: int = 64
    disk_mb: int = 256
    file_mb: int = 64
    notebook_mb: int = 10
    output_chars: int = 20_000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
