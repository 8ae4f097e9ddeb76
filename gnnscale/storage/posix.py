"""What Windows lacks: gnnscale is for Linux, and elsewhere what is missing is refused by name."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from gnnscale.errors import UnsupportedPlatform


def posix(module: str) -> ModuleType:
    """Import a module of the standard library that POSIX systems have.

    Raises:
        UnsupportedPlatform: this system does not.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise lacking(module) from error


def lacking(what: str) -> UnsupportedPlatform:
    """The error for what this system does not have."""
    return UnsupportedPlatform(
        f"{sys.platform} has no {what}, which trainers and files of gnnscale need: it runs on "
        "Linux. On Windows install it in WSL, the Windows Subsystem for Linux: `wsl --install`"
    )
