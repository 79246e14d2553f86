"""The first row taken for the only source."""

from torch.nn.functional import scaled_dot_product_attention as attend

CHECK = "mutual_guided"
SAYS = "a row without text"


def mutual(query, key, value):
    key, value = key.clone(), value.clone()
    key[1::2], value[1::2] = key[:1], value[:1]
    return attend(query, key, value)
