"""What older versions of torch, with which Rooftile works, refuse before it is asked."""

from __future__ import annotations

import pytest
import torch
from torch.torch_version import TorchVersion


def needs_torch(version: str, before: str) -> pytest.MarkDecorator:
    """Skips a test where torch is older than ``version``, ``before`` which it did what is said."""
    old = TorchVersion(torch.__version__) < version
    return pytest.mark.skipif(old, reason=f"before torch {version}, {before}")


FAST_PATH = needs_torch("2.13", "Dynamo refuses the encoder layer's fast path of run-time sizes")
