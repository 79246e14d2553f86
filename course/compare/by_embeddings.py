"""The editors of chapter 3, on a given picture."""

import torch
from torch import Tensor

from course.compare.editor import Given, Settings
from course.core.guidance import classifier_free
from course.core.model import Model
from course.core.sampling import last, noise_like, sample
from course.embeddings.imagic import imagic
from course.embeddings.null_text import null_text
from course.embeddings.pivotal import Inverted, negative_prompt


def by_imagic(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
    """Imagic at eta 0.7, from the middle of what the paper samples in; the weights are tuned in full."""
    wanted, nothing, schedule = model.encode_text(given.target), model.encode_text(""), model.schedule
    x_0, options = model.encode(given.picture), {**settings.imagic, "generator": generator}
    with imagic(model.unet, model.predict, x_0, wanted, schedule, **options) as text, torch.no_grad():
        guided = classifier_free(model.predict, text(0.7), nothing, settings.imagic_scale)
        walk = (noise_like(x_0, generator), schedule.times(settings.steps), schedule)
        return model.decode(last(sample(guided, *walk)))


def by_null_text(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
    """Null-text inversion, then the other prompt."""
    return _reprompted(model, given, null_text_of(model, given, settings))


def by_negative_prompt(model: Model, given: Given, settings: Settings, generator: torch.Generator) -> Tensor:
    """Negative-prompt inversion, then the other prompt."""
    return _reprompted(model, given, negative_prompt_of(model, given, settings))


def null_text_of(model: Model, given: Given, settings: Settings) -> Inverted:
    """The picture, inverted with a null embedding searched for each step."""
    walk = (model.schedule.times(settings.steps), model.schedule, settings.scale)
    words, nothing = model.encode_text(given.source), model.encode_text("")
    return null_text(model.predict, model.encode(given.picture), words, nothing, *walk)


def negative_prompt_of(model: Model, given: Given, settings: Settings) -> Inverted:
    """The picture, inverted with the source prompt in the place of none."""
    walk = (model.schedule.times(settings.steps), model.schedule, settings.scale)
    return negative_prompt(model.predict, model.encode(given.picture), model.encode_text(given.source), *walk)


def _reprompted(model: Model, given: Given, inverted: Inverted) -> Tensor:
    walk = inverted.sample(model.predict, model.encode_text(given.target), model.schedule)
    return model.decode(last(walk))
