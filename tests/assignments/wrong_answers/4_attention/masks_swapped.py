"""The edit's mask for the keys and the source's for the queries."""

from torch.nn.functional import scaled_dot_product_attention as attend

CHECK = "within_queries"
SAYS = "which keys"


def mutual_within(query, key, value, source_object, edit_object):
    allowed = source_object[:, None] == edit_object
    return attend(query[1:], key[:1], value[:1], allowed)
