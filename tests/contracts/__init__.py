"""Promises that every implementation of a protocol is held to, the real one and the fake."""
