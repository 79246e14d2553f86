"""The noise of t taken off in full, though the signal's factor has shrunk it."""

CHECK = "step_line"
SAYS = "ordinary DDIM step"


def pair_down(denoise, x, y, t, s, schedule):
    a, b = schedule.signal(s) / schedule.signal(t), schedule.noise(s) - schedule.noise(t)
    x = a * x + b * denoise(y, t)
    return x, a * y + b * denoise(x, t)
