"""What differs between two readings of the settings.

Knows keys and values. Does not know which of them can be changed while the program runs.
"""

from __future__ import annotations

import msgspec

__all__ = ["changed_keys"]


def changed_keys(old: msgspec.Struct, new: msgspec.Struct, prefix: str = "") -> list[str]:
    """The keys whose values differ, with their sections: `limits.waiting`."""
    names = []
    before, after = msgspec.structs.asdict(old), msgspec.structs.asdict(new)
    for name, value in after.items():
        was = before[name]
        if isinstance(value, msgspec.Struct) and isinstance(was, msgspec.Struct):
            names += changed_keys(was, value, f"{prefix}{name}.")
        elif value != was:
            names.append(prefix + name)
    return names
