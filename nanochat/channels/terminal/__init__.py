"""The terminal: a conversation with a prompt, or one message with one answer.

Knows screens, keys and pipes. Does not know that a model, a file or a database exists.
"""
