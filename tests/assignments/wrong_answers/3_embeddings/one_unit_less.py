"""The scale counted as Ho and Salimans do, where 0 is no guidance."""

CHECK = "guidance_base"
SAYS = "at scale 0"


def proximal_guidance(predict, source, target, scale, shrink):
    def denoise(x_t, t):
        eps = predict(x_t, t, source)
        return eps + (scale - 1) * shrink(predict(x_t, t, target) - eps)

    return denoise
