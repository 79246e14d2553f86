"""The source's keys with the edit's own values."""

from torch.nn.functional import scaled_dot_product_attention as attend

CHECK = "mutual_edit"
SAYS = "but gets its own values"


def mutual(query, key, value):
    return attend(query, key[::2].repeat_interleave(2, 0), value)
