"""Weights taken away after the softmax, so that the rest sum to less than 1."""

CHECK = "within_keys"
SAYS = "sum to 1 again"


def mutual_within(query, key, value, source_object, edit_object):
    allowed = edit_object[:, None] == source_object
    scores = query[1:] @ key[:1].mT / query.shape[-1] ** 0.5
    return scores.softmax(-1) * allowed @ value[:1]
