"""The rest of the edit looks at all of the source."""

from torch.nn.functional import scaled_dot_product_attention as attend

CHECK = "within_queries"
SAYS = "colours leak into it"


def mutual_within(query, key, value, source_object, edit_object):
    allowed = ~edit_object[:, None] | source_object
    return attend(query[1:], key[:1], value[:1], allowed)
