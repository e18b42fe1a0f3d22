"""Whether a file can be shown to the model, judged by its bytes and not by what it is called.

Pure. Knows the beginnings and ends of a few formats. Does not know where a file comes from.
"""

from __future__ import annotations

from nanochat.errors import ChannelError
from nanochat.events import Attachment, Text

__all__ = ["FETCH_LIMIT_BYTES", "PICTURE_LIMIT_BYTES", "TOTAL_LIMIT_BYTES", "picture", "read_document", "read_picture"]

# https://core.telegram.org/bots/api#getfile, read 2026-11-20: bots can download files of up to 20 MB.
FETCH_LIMIT_BYTES = 20_000_000

# https://platform.claude.com/docs/en/build-with-claude/vision, read 2026-11-20: 5 MB per image as base64, 8,000 pixels a side;
# https://platform.claude.com/docs/en/api/overview#request-size-limits: 32 MB per request, of which base64 leaves 24 of bytes.
PICTURE_LIMIT_BYTES = 5_000_000 * 3 // 4
_MAX_PIXELS = 8000
TOTAL_LIMIT_BYTES = 22_000_000

# About 25,000 tokens: more would push the conversation out of the model's window. Our own choice.
_TEXT_LIMIT_CHARS = 100_000


def read_picture(data: bytes, name: str = "") -> Attachment:
    """A picture as an attachment.

    Raises:
        ChannelError: it is none, is damaged, or is too large.
    """
    named = f"the picture {name}".rstrip()
    if len(data) > PICTURE_LIMIT_BYTES:
        raise ChannelError(
            f"{named} is too large: it has {_megabytes(len(data))}, and {_megabytes(PICTURE_LIMIT_BYTES)} can be looked at;"
            " sent as a photo and not as a file, it becomes smaller"
        )
    kind = picture(data)
    if kind is None:
        raise ChannelError(f"{named} is damaged, or no JPEG, PNG, GIF or WebP; please send it once more")
    return Attachment("image", kind, data, name)


def read_document(data: bytes, name: str, media_type: str) -> Attachment | Text:
    """A document: a picture, a PDF, or a text, which is quoted.

    Raises:
        ChannelError: it is something else, or too large.
    """
    if picture(data) is not None or media_type in ("image/jpeg", "image/png", "image/gif", "image/webp"):
        return read_picture(data, name)
    if data[:1024].lstrip().startswith(b"%PDF-"):
        return Attachment("document", "application/pdf", data, name)
    if media_type == "application/pdf":
        raise ChannelError(f"{name or 'the PDF'} is damaged; please send it once more")
    text = _decoded(data)
    if text is None:
        raise ChannelError(f"{name or 'this file'} cannot be read here; pictures, PDF and text files can")
    cut = ""
    if len(text) > _TEXT_LIMIT_CHARS:
        cut = f"\n[cut here: the file has {len(text):,} characters]"
        text = text[:_TEXT_LIMIT_CHARS]
    label = name.replace('"', "'").replace("\n", " ")
    return Text(f'<file name="{label}">\n{text.replace("</file", "</ file")}{cut}\n</file>')


def picture(data: bytes) -> str | None:
    """The media type of a whole picture of a sensible size; None for anything else.

    A picture that breaks off passes for one by its first bytes, and would be refused again with every later message.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND" in data[-64:]:
        return "image/png" if _is_sensible(_big(data, 16, 4), _big(data, 20, 4)) else None
    if data.startswith(b"\xff\xd8\xff") and b"\xff\xd9" in data[-4096:]:
        return "image/jpeg" if _is_sensible(*_jpeg_size(data)) else None
    if data.startswith((b"GIF87a", b"GIF89a")) and b"\x3b" in data[-64:]:
        return "image/gif" if _is_sensible(_little(data, 6, 2), _little(data, 8, 2)) else None
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and _little(data, 4, 4) + 8 <= len(data):
        return "image/webp"
    return None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height out of the frame header; zeros where there is none."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _big(data, place + 7, 2), _big(data, place + 5, 2)
        # Bytes that fill, and markers without a length.
        place += 1 if marker == 0xFF else 2 if 0xD0 <= marker <= 0xD8 or marker == 1 else 2 + _big(data, place + 2, 2)
    return 0, 0


def _is_sensible(width: int, height: int) -> bool:
    return 0 < width <= _MAX_PIXELS and 0 < height <= _MAX_PIXELS


def _big(data: bytes, start: int, size: int) -> int:
    return int.from_bytes(data[start : start + size], "big")


def _little(data: bytes, start: int, size: int) -> int:
    return int.from_bytes(data[start : start + size], "little")


def _decoded(data: bytes) -> str | None:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1_000_000:.1f} MB"
