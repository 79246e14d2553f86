"""Solutions of the exercises of notebooks/0_start/3_guidance_and_attention.ipynb."""


def guided(eps_null, eps_text, w):
    return (1 + w) * eps_text - w * eps_null


def rescaled(eps_guided, eps_text, share):
    own, wanted = (eps.std(dim=(1, 2, 3), keepdim=True) for eps in (eps_guided, eps_text))
    return share * eps_guided * wanted / own + (1 - share) * eps_guided
