"""Solutions of the exercises in notebooks/4_attention/4_implicit_assumptions.ipynb."""

import torch

from course.attention.implicit_assumptions import edited_projection


def one_for_all(contexts, targets, lam):
    identity = lam * torch.eye(contexts.shape[1], dtype=contexts.dtype)
    return torch.linalg.solve(identity + contexts.T @ contexts, identity + contexts.T @ targets).T


def keeping(weight, contexts, values, kept, lam):
    return edited_projection(weight, torch.cat([contexts, kept]), torch.cat([values, kept @ weight.T]), lam)
