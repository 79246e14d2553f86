"""Solutions of the exercises in notebooks/4_attention/3_instruct_pix2pix.ipynb."""


def guided(eps, guidance_scale, image_guidance_scale):
    eps_both, eps_image, eps_none = eps.chunk(3)
    keep, change = eps_image - eps_none, eps_both - eps_image
    return eps_none + image_guidance_scale * keep + guidance_scale * change


def best(scores, least, most):
    passed = [
        i for i in range(len(scores["direction"])) if all(scores[name][i] >= least[name] for name in least)
    ]
    return sorted(passed, key=lambda i: -float(scores["direction"][i]))[:most]
