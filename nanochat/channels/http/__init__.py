"""HTTP: the same conversations for programs and for a page, over a port with a token or a socket of one user.

Knows the web. Does not know that a model, a file or a database exists.
"""

from nanochat.channels.http.channel import Http, HttpSettings

__all__ = ["Http", "HttpSettings"]
