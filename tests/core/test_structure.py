"""Structure is what is alike with what, and nothing else."""

import pytest
import torch
from torch.testing import assert_close

from course.core.structure import self_similarity, structure_distance

FEATURES = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))


def test_cosines_of_every_two_places_by_hand():
    found = self_similarity(torch.tensor([[[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]]))
    assert_close(found, torch.tensor([[[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]]))


def test_looks_do_not_count():
    """Neither a turn of the feature space nor the length of a feature changes the structure."""
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1))).Q
    lengths = torch.rand(2, 16, 1, generator=torch.Generator().manual_seed(2)) + 0.5
    assert_close(structure_distance(FEATURES, lengths * FEATURES @ turn), torch.zeros(2), atol=1e-9, rtol=0)


def test_layout_counts():
    distance = structure_distance(FEATURES, FEATURES[:, torch.arange(15, -1, -1)])
    assert (distance > 0.01).all()
    by_hand = (self_similarity(FEATURES) - self_similarity(FEATURES).flip(1, 2)).square().mean((1, 2))
    assert_close(distance, by_hand)


def test_features_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="features must be of one shape"):
        structure_distance(FEATURES, FEATURES[:, :4])
