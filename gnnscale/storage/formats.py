"""Formats of gnnscale's own files: one version each; another is refused with what makes it anew."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from gnnscale.errors import DamagedStore, StoreError


@dataclass(frozen=True)
class Format:
    """What a file or folder is, and the one version of it that is written and read.

    Attributes:
        name: what it says of itself.
        version: raised whenever what is written changes so that what is here cannot read it.
        what: what it is called in errors.
        again: the call or command that makes it anew.
    """

    name: str
    version: int
    what: str
    again: str

    @property
    def stamp(self) -> dict[str, Any]:
        """What a file says of itself."""
        return {"format": self.name, "version": self.version}

    def check(self, content: object, path: str | os.PathLike[str]) -> None:
        """Compare the stamp of what was read.

        Raises:
            DamagedStore: it is none of this format.
            StoreError: it is of another version.
        """
        if not isinstance(content, dict) or content.get("format") != self.name:
            raise DamagedStore(f"{path} is not a {self.what}")
        if (version := content.get("version")) != self.version:
            raise StoreError(
                f"{path} has format version {version}; this gnnscale reads {self.version}. Make it "
                f"anew: {self.again}; or read it with the gnnscale that wrote it"
            )

    def unstamped(self, content: object, path: str | os.PathLike[str]) -> dict[str, Any]:
        """What was read without its stamp, compared; without one a file is of version 1.

        Raises:
            DamagedStore: it is none of this format.
            StoreError: it is of another version.
        """
        if not isinstance(content, dict):
            raise DamagedStore(f"{path} is not a {self.what}")
        self.check({"format": self.name, "version": 1, **content}, path)
        return {name: value for name, value in content.items() if name not in self.stamp}
