"""Structs that keep what they carry to themselves: a value that lands in a log or a trace shows no secret."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class Discreet(msgspec.Struct, frozen=True):
    """A Struct whose repr leaves out the fields named in `hidden`."""

    hidden: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        shown = (
            f"{name}=…" if name in self.hidden else f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(shown)})"
