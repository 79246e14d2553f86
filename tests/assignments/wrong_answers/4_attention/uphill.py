"""Along the gradient, which makes the loss grow."""

CHECK = "refine_step"
SAYS = "against the gradient"


def refine(x, loss_and_gradient, threshold, size, most):
    for _ in range(most):
        loss, gradient = loss_and_gradient(x)
        if loss <= threshold:
            break
        x = x + size * gradient
    return x
