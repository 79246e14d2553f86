"""Rows swapped: the source looks at the edit, too."""

import torch
from torch.nn.functional import scaled_dot_product_attention as attend

CHECK = "mutual_source"
SAYS = "it looks at itself"


def mutual(query, key, value):
    other = torch.arange(len(query)) ^ 1
    return attend(query, key[other], value[other])
