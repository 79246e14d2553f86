"""Source minus target, which leads away from it."""

CHECK = "guidance_scale"
SAYS = "from the source towards the target"


def proximal_guidance(predict, source, target, scale, shrink):
    def denoise(x_t, t):
        eps = predict(x_t, t, source)
        return eps + scale * shrink(eps - predict(x_t, t, target))

    return denoise
