"""The classifiers that come with the package: their network, and how an image reaches it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate


def to_grey(images: Tensor, side: int) -> Tensor:
    """Images uint8 [B, 3, H, W] as the network sees them: float32 [B, 1, side, side] in [−1, 1].

    The mean of the three channels, resized bilinear with antialiasing and without rounding; images of that side keep
    their pixels.
    """
    grey = images.float().mean(dim=1, keepdim=True)
    return interpolate(grey, (side, side), mode="bilinear", antialias=True) / 127.5 - 1


class SmallCnn(nn.Module):
    """Image [B, 1, side, side] → (features [B, num_features], logits [B, num_classes]).

    Convolutions of 3 × 3, each but the first of stride 2 where `strides` says so; then every channel is weighted over
    its positions into one number (an average would forget where things are), and a linear map makes the features of
    these: signed, dense, and with mean 0 and variance 1 over the training images by a normalisation without parameters
    of its own. The logits are linear in the features.
    """

    def __init__(self, side: int, widths: Sequence[int], strides: Sequence[int], num_features: int, num_classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width, stride in zip(widths, strides, strict=True):
            layers += [nn.Conv2d(before, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before, side = width, -(-side // stride)
        self.body = nn.Sequential(*layers)
        self.pool = nn.Conv2d(before, before, side, groups=before, bias=False)
        self.features = nn.Linear(before, num_features, bias=False)
        self.normalise = nn.BatchNorm1d(num_features, affine=False)
        self.classes = nn.Linear(num_features, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: float32 in [−1, 1]."""
        features = self.normalise(self.features(self.pool(self.body(x)).flatten(1)))
        return features, self.classes(features)
