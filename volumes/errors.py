"""Refusals as exceptions. They live apart so that a process that only decodes pixels need not import torch."""

from __future__ import annotations

from typing import Any


class VolumeError(ValueError):
    """A refusal with a written reason: `reason` is a short machine key, the message is for people."""

    def __init__(self, message: str, reason: str = "refused") -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.reason)  # keeps the reason across worker processes


class SeriesError(VolumeError):
    """One series cannot be read faithfully."""


class StudyError(VolumeError):
    """A study cannot be read, or the request about it is ambiguous."""
