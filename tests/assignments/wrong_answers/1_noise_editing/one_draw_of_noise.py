"""The distance for one noise that was drawn, in place of the expectation."""

import torch

CHECK = "distance_noise"
SAYS = "is computed, not drawn"


def expected_distance(edit, guide):
    return float(((edit(torch.randn_like(guide)) - guide) ** 2).mean())
