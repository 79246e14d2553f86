"""The difference added to the target's prediction."""

CHECK = "guidance_base"
SAYS = "the source's own prediction"


def proximal_guidance(predict, source, target, scale, shrink):
    def denoise(x_t, t):
        eps = predict(x_t, t, target)
        return eps + scale * shrink(eps - predict(x_t, t, source))

    return denoise
