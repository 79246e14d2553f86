"""Steps of one length, whatever the gradient's."""

CHECK = "refine_step"
SAYS = "the gradient as it is"


def refine(x, loss_and_gradient, threshold, size, most):
    for _ in range(most):
        loss, gradient = loss_and_gradient(x)
        if loss <= threshold:
            break
        x = x - size * gradient / gradient.norm()
    return x
