"""The scale multiplies first, and what it makes large is not shrunk."""

CHECK = "guidance_scale"
SAYS = "shrink the difference first"


def proximal_guidance(predict, source, target, scale, shrink):
    def denoise(x_t, t):
        eps = predict(x_t, t, source)
        return eps + shrink(scale * (predict(x_t, t, target) - eps))

    return denoise
