"""Solutions of the exercises of notebooks/0_start/4_measuring_an_edit.ipynb."""

import torch


def kept_error(edited, source, mask):
    outside = (1 - mask).expand_as(edited)
    return (((edited - source) ** 2 * outside).sum() / outside.sum()).item()


def interval(differences, draws, generator):
    chosen = torch.randint(len(differences), (draws, len(differences)), generator=generator)
    means = differences[chosen].mean(1)
    return means.quantile(0.025).item(), means.quantile(0.975).item()
