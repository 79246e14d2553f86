"""The first strength beyond the budget, in place of the last within it."""

CHECK = "budget"
SAYS = "the last within the budget"


def strongest(distance, budget, steps):
    for k in range(1, steps + 1):
        if distance(k / steps) > budget:
            return k / steps
    return 1.0
