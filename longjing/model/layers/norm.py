"""Root mean square layer normalisation (arXiv 1910.07467)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.RMSNorm):
    """PyTorch's, in any number format. Under autocast the result is in the format of the products that read it:
    converted once, not once by each of them."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` `[..., width]` -> the same shape."""
        device = x.device.type
        x = F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)
        return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x
