"""What a message carries beside text: as parts in an Inbound, as blocks in a line, as bytes in a request.

Small pictures stay in their line, readable and portable; large ones become blobs that the line names. Knows the three forms
and the store's blobs. Does not know what a picture shows.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import cast

from nanochat.events import Attachment, Part, Text
from nanochat.ports import SessionStore
from nanochat.records import Block, Content, Json

__all__ = ["MAX_INLINE_BYTES", "to_content", "with_bytes"]

# Above this a line would hide the conversation around it.
MAX_INLINE_BYTES = 64 * 1024


async def to_content(store: SessionStore, parts: Sequence[Part]) -> Content:
    """What a user line holds for these parts: plain text where there is nothing else."""
    if all(isinstance(part, Text) for part in parts):
        return "\n".join(part.text for part in parts if isinstance(part, Text))
    return [await _to_block(store, part) for part in parts]


async def with_bytes(store: SessionStore, messages: Sequence[Block]) -> tuple[Block, ...]:
    """The messages of a request with the bytes of blobs in place; a lost blob becomes a line that says so."""
    filled = []
    for message in messages:
        blocks = cast(Sequence[Block], message["content"])
        if any(_blob_of(block) for block in blocks):
            blocks = [await _with_bytes(store, block) for block in blocks]
        filled.append({**message, "content": blocks})
    return tuple(filled)


async def _to_block(store: SessionStore, part: Part) -> Block:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Attachment(kind=kind, media_type=media_type, data=data) if len(data) <= MAX_INLINE_BYTES:
            encoded = base64.b64encode(data).decode()
            return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": encoded}}
        case Attachment(kind=kind, media_type=media_type, data=data):
            sha256 = await store.put_blob(data)
            return {"type": kind, "source": {"type": "blob", "media_type": media_type, "sha256": sha256}}


async def _with_bytes(store: SessionStore, block: Block) -> Block:
    sha256 = _blob_of(block)
    if not sha256:
        return block
    data = await store.get_blob(sha256)
    if data is None:
        return {"type": "text", "text": f"[a {block['type']} that is no longer stored]"}
    source = cast(Mapping[str, Json], block["source"])
    encoded = base64.b64encode(data).decode()
    return {**block, "source": {"type": "base64", "media_type": source.get("media_type"), "data": encoded}}


def _blob_of(block: Block) -> str:
    source = block.get("source")
    if isinstance(source, Mapping) and source.get("type") == "blob":
        return str(source.get("sha256", ""))
    return ""
