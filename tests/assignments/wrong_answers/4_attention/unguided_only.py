"""Only the first two rows edited, as if guidance had not doubled them."""

from torch.nn.functional import scaled_dot_product_attention as attend

CHECK = "mutual_guided"
SAYS = "looks at the source with text"


def mutual(query, key, value):
    key, value = key.clone(), value.clone()
    key[1], value[1] = key[0], value[0]
    return attend(query, key, value)
