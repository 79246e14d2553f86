"""All of the source's, so that the edit is its copy."""

from torch.nn.functional import scaled_dot_product_attention as attend

CHECK = "mutual_edit"
SAYS = "a copy of the source"


def mutual(query, key, value):
    return attend(query, key, value)[::2].repeat_interleave(2, 0)
