"""A script without a guard, named on the command line: it compiles and explains its model when it is imported."""

import torch
from torch import Tensor, nn

import rooftile


class Model(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


x = torch.randn(4, 8)
rooftile.compile(Model())(x)
report = rooftile.explain(Model(), x)
