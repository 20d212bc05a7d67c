"""Torch's global switches as they are by default, whatever a script has left them at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def neutral() -> Iterator[None]:
    """Inside: float32, no default device, gradients on, nothing forbidden; afterwards as before."""
    dtype, device = torch.get_default_dtype(), _default_device()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_default_dtype(torch.float32)
    if device is not None:
        torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autograd.set_detect_anomaly(False),
            torch.autocast("cpu", enabled=False),
        ):
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_default_dtype(dtype)
        if device is not None:
            torch.set_default_device(device)


def _default_device() -> torch.device | None:
    """None where none was set: setting one puts a mode on every torch call."""
    context = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    return getattr(context, "device", None)
