"""A score of 0 for what may not be looked at."""

CHECK = "within_keys"
SAYS = "still gets weight"


def mutual_within(query, key, value, source_object, edit_object):
    allowed = edit_object[:, None] == source_object
    scores = query[1:] @ key[:1].mT / query.shape[-1] ** 0.5
    return (scores * allowed).softmax(-1) @ value[:1]
