"""What keeps a signature with TensorFlow."""

from __future__ import annotations


class CannotConvert(Exception):
    """TensorFlow executes this signature, or this model; the message is the reason, as a clause."""


class CannotCompile(CannotConvert):
    """OpenVINO raises an error for a body, although it has each of its operations."""
