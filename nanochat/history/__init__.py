"""What is sent to the model: records in, a legal request out, of about the same cost after ten messages and after a million.

    exchanges     which records are still sent, and where each exchange begins
    sizes         how many tokens they are
    blocks        what of one line may be sent
    requests      the messages of a request, with their cache breakpoints
    compaction    when the old part makes room, and what is said in its place

Pure: no clock, no file, no network. Each imports those above it only.
"""

from nanochat.history.requests import (
    INTERRUPTED,
    Ttl,
    prefix_hash,
    render,
    system_blocks,
    tail,
    with_breakpoints,
)

__all__ = ["INTERRUPTED", "Ttl", "prefix_hash", "render", "system_blocks", "tail", "with_breakpoints"]
