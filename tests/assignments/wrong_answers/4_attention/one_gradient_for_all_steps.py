"""The gradient asked for once."""

CHECK = "refine_step"
SAYS = "ask again"


def refine(x, loss_and_gradient, threshold, size, most):
    gradient = loss_and_gradient(x)[1]
    for _ in range(most):
        if loss_and_gradient(x)[0] <= threshold:
            break
        x = x - size * gradient
    return x
