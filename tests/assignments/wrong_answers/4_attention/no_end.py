"""Steps until the loss is low enough, which it may never be."""

CHECK = "refine_stop"
SAYS = "do not end"


def refine(x, loss_and_gradient, threshold, size, most):
    loss, gradient = loss_and_gradient(x)
    while loss > threshold:
        x = x - size * gradient
        loss, gradient = loss_and_gradient(x)
    return x
