"""Full-text search over every conversation.

`SearchIndex` keeps the promises of `doors.Search`. Under it, lower ones first: `words` (what is typed, and where it stands in a
text), `reading` (what a session file says), `database` (the index's file), `batch` (rows into it), `upkeep` (which lines are
new), `lookup` (answers out of it), `index`. Knows session files and words. Does not know who asks, nor who may.
"""

from nanochat.search.batch import Measures
from nanochat.search.index import SearchIndex
from nanochat.search.upkeep import Progress
from nanochat.search.words import Marker

__all__ = ["Marker", "Measures", "Progress", "SearchIndex"]
