"""The file name of a key, and the key of a file name.

The laws: two keys never share a name, not even where the file system folds case; no name leaves its directory; a name is at most
`MAX_STEM_BYTES` long and still reads like its key. Knows nanobot's two naming schemes too. Does not know what is on the disk.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from nanochat.errors import KeyFormError
from nanochat.keys import SessionKey

__all__ = ["MAX_STEM_BYTES", "SUFFIX", "key_of", "nanobot_key_of", "nanobot_stems", "stem_of"]

SUFFIX = ".jsonl"

# 255 bytes is the limit of a name on ext4, XFS, APFS and NTFS, and 143 under eCryptfs; the rest is for suffixes.
MAX_STEM_BYTES = 120

# 128 bits, so that even keys made up to collide do not.
_HASH_DIGITS = 32

# A chat id that is its own name, as nearly all are.
_PLAIN = re.compile(r"[a-z0-9_=@,-]{1,80}\Z")

_ESCAPE = re.compile(r"%([0-9a-f]{2})")

_KEPT = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-.=@,")

# What nanobot replaces by an underscore in the older of its schemes.
_NANOBOT_UNSAFE = re.compile(r'[<>:"/\\|?*]')


def stem_of(key: SessionKey) -> str:
    """`telegram:12345` is `telegram+12345`.

    A key begins with its channel, so a name never begins with a dot or a dash and is never a device of Windows.
    """
    if _PLAIN.match(key.chat_id):
        return f"{key.channel}+{key.chat_id}"
    text = str(key).encode()
    stem = "".join("+" if byte == 0x3A else chr(byte) if byte in _KEPT else f"%{byte:02x}" for byte in text)
    if stem.endswith("."):
        stem = stem[:-1] + "%2e"  # Windows drops it, also in front of a suffix that is taken off
    if len(stem) <= MAX_STEM_BYTES:
        return stem
    digest = hashlib.sha256(text).hexdigest()[:_HASH_DIGITS]
    return f"{stem[: MAX_STEM_BYTES - _HASH_DIGITS - 1]}~{digest}"


def key_of(stem: str) -> SessionKey | None:
    """The key whose name this is; None for a shortened name, which only the file's header can tell, and for foreign ones."""
    channel, plus, chat_id = stem.partition("+")
    if not plus or "~" in stem:
        return None
    try:
        if _PLAIN.match(chat_id):
            return SessionKey(channel, chat_id)
        raw = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), chat_id.replace("+", ":"))
        key = SessionKey(channel, raw.encode("latin-1").decode())
    except (UnicodeError, KeyFormError):
        return None
    return key if stem_of(key) == stem else None


def nanobot_stems(key: SessionKey) -> tuple[str, str]:
    """Where nanobot keeps this key: its present name first, then the older one, which several keys can share."""
    present = base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")
    return present, _NANOBOT_UNSAFE.sub("_", str(key)).strip()


def nanobot_key_of(stem: str) -> SessionKey | None:
    """The key of nanobot's present scheme, or None."""
    try:
        key = SessionKey.parse(base64.b64decode(stem + "=" * (-len(stem) % 4), b"-_", validate=True).decode())
    except (binascii.Error, ValueError, KeyFormError):
        return None
    return key if nanobot_stems(key)[0] == stem else None
