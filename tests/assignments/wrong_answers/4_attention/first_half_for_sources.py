"""The first half of the rows taken for the sources, the second for the edits."""

from torch.nn.functional import scaled_dot_product_attention as attend

CHECK = "mutual_guided"
SAYS = "rows 2 and 3 with it"


def mutual(query, key, value):
    half = len(query) // 2
    return attend(query, key[:half].repeat(2, 1, 1, 1), value[:half].repeat(2, 1, 1, 1))
