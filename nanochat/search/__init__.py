"""Full-text search over every conversation.

`SearchIndex` keeps the promises of `doors.Search`. Under it, lower ones first: `words` (what is typed, and where it stands in a
text), `reading` (what a session file says), `database` (the index's file), `upkeep` (new lines into it), `lookup` (answers out
of it), `index`. Knows session files and words. Does not know who asks, nor who may.
"""

from nanochat.search.index import SearchIndex
from nanochat.search.upkeep import ROLES, Measures, Progress
from nanochat.search.words import Marker

__all__ = ["ROLES", "Marker", "Measures", "Progress", "SearchIndex"]
