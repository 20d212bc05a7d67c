"""Changes a training at run time, at points of the recorded program; no edit of the user's file."""

from __future__ import annotations


class Injector:
    """Remedies set it up before the script runs."""
