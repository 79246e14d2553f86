"""A step first, and the loss looked at after it."""

CHECK = "refine_stop"
SAYS = "look, then step"


def refine(x, loss_and_gradient, threshold, size, most):
    for _ in range(most):
        x = x - size * loss_and_gradient(x)[1]
        if loss_and_gradient(x)[0] <= threshold:
            break
    return x
