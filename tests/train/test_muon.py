"""Muon: orthogonal updates for matrices, Adam's for the rest, on the same problem as PyTorch's own."""

import pytest
import torch
from torch import nn

from course.train.muon import Muon, muon_for, orthogonalised


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6)])
def test_orthogonalised_keeps_the_singular_vectors_and_levels_the_values(shape):
    torch.manual_seed(0)
    u, s, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    out = orthogonalised(u @ torch.diag(torch.linspace(1, 0.1, len(s))) @ v)
    levels = torch.diag(u.T @ out @ v.T)
    torch.testing.assert_close(u @ torch.diag(levels) @ v, out, atol=1e-4, rtol=0)
    assert levels.min() > 0.65
    assert levels.max() < 1.25


def gradients(weight, n=4):
    return [torch.randn(weight.shape, generator=torch.Generator().manual_seed(i)) for i in range(n)]


def after(optimizer, weight):
    for grad in gradients(weight):
        weight.grad = grad.clone()
        optimizer.step()
    return weight.detach()


def test_matrices_follow_the_muon_of_pytorch():
    start = torch.randn(12, 30, generator=torch.Generator().manual_seed(9))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    peer = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    moved = after(Muon([ours], [], 0.02), ours) - start
    expected = after(peer, theirs) - start
    # PyTorch's own computes in bfloat16, of 8 bits
    assert (moved - expected).norm() < 0.02 * expected.norm()


def test_a_convolution_moves_as_the_matrix_it_is():
    start = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(9))
    kernel, matrix = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1).clone())
    a, b = Muon([kernel], [], 0.02), Muon([matrix], [], 0.02)
    for grad in gradients(kernel):
        kernel.grad, matrix.grad = grad, grad.flatten(1)
        a.step()
        b.step()
    torch.testing.assert_close(kernel.detach().flatten(1), matrix.detach())


def test_the_rest_follows_adamw():
    start = torch.randn(7)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    peer = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.98), weight_decay=0.01)
    torch.testing.assert_close(after(Muon([], [ours], 0.01), ours), after(peer, theirs))


def test_vectors_are_refused_as_matrices_and_closures_altogether():
    with pytest.raises(ValueError, match="put it into `rest`"):
        Muon([nn.Parameter(torch.zeros(3))], [], 0.1)
    with pytest.raises(ValueError, match="closure"):
        Muon([], [nn.Parameter(torch.zeros(3))], 0.1).step(lambda: 0.0)


def test_muon_takes_the_hidden_matrices_and_adam_the_rest():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    groups = muon_for(model, 0.1, ("0.", "3.")).param_groups
    assert {id(w) for w in groups[0]["params"]} == {id(model[1].weight)}
    assert len(groups[1]["params"]) == len(list(model.parameters())) - 1
    with pytest.raises(ValueError, match="no weight's name begins with 'head'"):
        muon_for(model, 0.1, ("head",))
