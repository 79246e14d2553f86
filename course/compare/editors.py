"""Every editor of given pictures that chapters 1 to 4 teach, each as the function (model, given, settings,
generator) -> picture.

Its own settings are the paper's, or those that its lesson found best on the sticker model; what all share
(steps, guidance) is in `Settings`. TIME (chapter 4) is not here: it edits the model, for all pictures yet to
be drawn, and no given one.
"""

import torch
from torch import Tensor

from course.compare.by_attention import P2P, by_instruct_pix2pix, by_plug_and_play, instructed_by
from course.compare.by_embeddings import by_imagic, by_negative_prompt, by_null_text
from course.compare.editor import Edit, Editor, Given, Settings
from course.core.images import shrink_mask
from course.core.model import Model
from course.core.sampling import invert, last, noise_like, sample
from course.inversion.contrast import contrast, contrast_mask
from course.inversion.ddib import ddib
from course.inversion.diffedit import diffedit
from course.noise_editing.blended_diffusion import blended_diffusion
from course.noise_editing.sdedit import sdedit


def alone(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
    """The picture through the autoencoder: no editor of latents keeps more."""
    return model.decode(model.encode(given.picture))


def anew(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
    """Another picture, drawn from the target prompt: what the model can draw, and nothing kept."""
    noise = noise_like(model.encode(given.picture), generator)
    guided = model.denoiser(given.target, guidance_scale=settings.scale)
    return model.decode(last(sample(guided, noise, model.schedule.times(settings.steps), model.schedule)))


def by_sdedit(strength: float) -> Edit:
    """SDEdit at one strength, the paper's random walk."""

    def edit(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
        guide = model.encode(given.picture)
        guided = model.denoiser(given.target, guidance_scale=settings.scale)
        walk = (noise_like(guide, generator), model.schedule.times(settings.steps), model.schedule, strength)
        return model.decode(sdedit(guided, guide, *walk, generator=generator))

    return edit


def by_blending(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
    """Blended Latent Diffusion at strength 0.8 within the given mask."""
    assert given.mask is not None
    source = model.encode(given.picture)
    mask = shrink_mask(given.mask, *source.shape[2:]).to(source)
    guided = model.denoiser(given.target, guidance_scale=settings.scale)
    walk = (noise_like(source, generator), model.schedule.times(settings.steps), model.schedule, 0.8)
    return model.decode(blended_diffusion(guided, source, mask, *walk, generator=generator))


def by_ddib(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
    """DDIB between the two texts, unguided both ways."""
    before, after = (model.denoiser(text, guidance_scale=1) for text in (given.source, given.target))
    times = model.schedule.times(settings.steps)
    return model.decode(ddib(before, after, model.encode(given.picture), times, model.schedule))


def by_diffedit(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
    """DiffEdit: mask from ten noises at half the time axis, then the ratio 0.8."""
    x_0, walk = model.encode(given.picture), (model.schedule.times(settings.steps), model.schedule)
    query, reference = (model.denoiser(text, guidance_scale=1) for text in (given.target, given.source))
    mask = contrast_mask(contrast(query, reference, x_0, *walk, generator=generator))
    guided = model.denoiser(given.target, guidance_scale=settings.scale)
    nothing = model.denoiser("", guidance_scale=1)
    return model.decode(diffedit(guided, nothing, x_0, mask, *walk, ratio=0.8))


def by_inversion(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
    """Up with the source prompt, unguided; down with the target prompt, guided."""
    before = model.denoiser(given.source, guidance_scale=1)
    guided = model.denoiser(given.target, guidance_scale=settings.scale)
    walk = (model.schedule.times(settings.steps), model.schedule)
    x_T = last(invert(before, model.encode(given.picture), *walk))
    return model.decode(last(sample(guided, x_T, *walk)))


BOTH = ("source", "target")
EDITORS: tuple[Editor, ...] = (
    Editor("nothing (autoencoder)", alone, None, (), "the picture, encoded and decoded"),
    Editor("drawn anew", anew, None, about="another picture from the target prompt"),
    *(Editor(f"SDEdit {s}", by_sdedit(s), 1, about=f"strength {s}, eta 1") for s in (0.4, 0.6, 0.8)),
    Editor("Blended Diffusion", by_blending, 1, ("target", "mask"), "the true mask, strength 0.8"),
    Editor("DDIB", by_ddib, 2, BOTH, "between two texts, unguided"),
    Editor("DDIM inversion", by_inversion, 2, BOTH, "up with the source prompt, down guided"),
    Editor("DiffEdit", by_diffedit, 2, BOTH, "mask found from ten noises, ratio 0.8"),
    Editor("Imagic", by_imagic, 3, about="eta 0.7, full tuning", slow=True),
    Editor(
        "negative prompt", by_negative_prompt, 3, BOTH, "negative-prompt inversion, then the other prompt"
    ),
    Editor("null-text", by_null_text, 3, BOTH, "null-text inversion, then the other prompt", slow=True),
    Editor("P2P, negative prompt", P2P["negative prompt"], 4, BOTH, "Prompt-to-Prompt on the same inversion"),
    Editor("P2P, null-text", P2P["null-text"], 4, BOTH, "Prompt-to-Prompt on the same inversion", slow=True),
    Editor("Plug-and-Play", by_plug_and_play, 4, about="the paper's layers and shares"),
    *(
        Editor(name, by_instruct_pix2pix, 4, ("instruction",), about, opened=instructed_by(pairs))
        for name, pairs, about in (
            ("InstructPix2Pix", "drawn", "learnt from pairs that the model drew"),
            ("InstructPix2Pix, true pairs", "true", "learnt from as many true pairs"),
        )
    ),
)
