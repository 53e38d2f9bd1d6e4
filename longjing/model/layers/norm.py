"""Root mean square layer normalisation (arXiv 1910.07467)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.RMSNorm):
    """PyTorch's, computed in float32, with the result in the format of the products that read it: the weights', or that
    of autocast. Weights are rounded to that format first, so that it doesn't matter which of the two it is."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` `[..., width]` -> the same shape."""
        dtype = compute_dtype(self.weight)
        weight = self.weight.to(dtype).float()
        return F.rms_norm(x.float(), self.normalized_shape, weight, self.eps).to(dtype)


def compute_dtype(weight: Tensor) -> torch.dtype:
    """The number format of products with this weight."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
