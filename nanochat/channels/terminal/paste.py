"""Pastes: taken in at a cost that grows with their length and not its square, and none that is more than a message may be.

prompt_toolkit's own parser searches all that was pasted for its end with every kilobyte that comes; this one searches what
is new. Knows the marks that a terminal puts around a paste. Does not know what becomes of the text.
"""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys

__all__ = ["PasteParser"]

# https://invisible-island.net/xterm/ctlseqs/ctlseqs.html, "Bracketed Paste Mode", read 2026-11-20.
_BEGIN, _END = "\x1b[200~", "\x1b[201~"


class PasteParser(Vt100Parser):
    """Keys from what a terminal sends; a paste is one key.

    A paste of more than `limit_bytes` is not kept while it comes; `on_refused` gets its size at its end.
    """

    def __init__(
        self, feed_key: Callable[[KeyPress], None], limit_bytes: int, on_refused: Callable[[int], None]
    ) -> None:
        self._limit_bytes = limit_bytes
        self._on_refused = on_refused
        self._held = ""
        self._paste: _Paste | None = None
        super().__init__(feed_key)

    def feed(self, data: str) -> None:
        """Take in what came, in any pieces."""
        while data:
            data = self._feed_keys(data) if self._paste is None else self._feed_paste(self._paste, data)

    def flush(self) -> None:
        """No more comes for now: what could have begun a paste was a key."""
        held, self._held = self._held, ""
        super().feed(held)
        super().flush()

    def _feed_keys(self, data: str) -> str:
        """Returns what stands behind the beginning of a paste."""
        data, self._held = self._held + data, ""
        keys, begin, rest = data.partition(_BEGIN)
        if begin:
            self._paste = _Paste(self._limit_bytes)
        else:
            # The mark may be cut in two; the shortest that is held back is Escape, which waits for `flush` anyway.
            cut = next((n for n in range(len(_BEGIN) - 1, 0, -1) if keys.endswith(_BEGIN[:n])), 0)
            self._held = keys[len(keys) - cut :]
            keys = keys[: len(keys) - cut]
        super().feed(keys)
        return rest

    def _feed_paste(self, paste: _Paste, data: str) -> str:
        """Returns what stands behind the end of the paste."""
        rest = paste.take(data)
        if rest is None:
            return ""
        self._paste = None
        if paste.is_refused:
            self._on_refused(paste.size_bytes)
        else:
            self.feed_key_callback(KeyPress(Keys.BracketedPaste, paste.text))
        return rest


class _Paste:
    """What came of one paste."""

    def __init__(self, limit_bytes: int) -> None:
        self.size_bytes = 0
        self.text = ""
        self._limit_bytes = limit_bytes
        self._pieces: list[str] = []
        self._tail = ""

    @property
    def is_refused(self) -> bool:
        return self.size_bytes > self._limit_bytes

    def take(self, data: str) -> str | None:
        """Add text; returns what stands behind the paste's end, or None where the end has not come."""
        window = self._tail + data
        at = window.find(_END)
        whole = window if at < 0 else window[:at]
        # What could be the beginning of the end is not counted as text before more has come.
        keep = 0 if at >= 0 else min(len(whole), len(_END) - 1)
        self._add(whole[: len(whole) - keep])
        self._tail = whole[len(whole) - keep :]
        if at < 0:
            return None
        self.text = "".join(self._pieces)
        return window[at + len(_END) :]

    def _add(self, text: str) -> None:
        self.size_bytes += len(text.encode(errors="surrogateescape"))
        if self.is_refused:
            self._pieces.clear()
        else:
            self._pieces.append(text)
