"""The long values of a session, its system text and its pins, which snapshots only point at.

An offset is believed when the line there is the one that was meant; a file edited by hand is searched for it. Knows offsets and
`set` records. Does not know which of them are live.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nanochat.records import Ref, SetValue, Snapshot, State
from nanochat.store.scan import Source, forwards, line_at

__all__ = ["Settled", "settle"]

_SET_HINT = b'"set"'


@dataclass(frozen=True, slots=True)
class Settled:
    """A state whose references hold, and the texts that they refer to: one for each pin."""

    state: State
    system: str
    pins: tuple[str, ...]


def settle(source: Source, end: int, state: State) -> Settled:
    """Resolve the references of `state`; one whose line is nowhere in the first `end` bytes is dropped."""
    if state.system is None and not state.pins:
        return Settled(state, "", ())
    resolver = _Resolver(source, end)
    system = resolver.resolve("system", (state.system,) if state.system else ())
    pins = resolver.resolve("pin", state.pins)
    state = replace(state, system=system[0][0] if system else None, pins=tuple(ref for ref, _ in pins))
    return Settled(state, system[0][1] if system else "", tuple(text for _, text in pins))


class _Resolver:
    def __init__(self, source: Source, end: int) -> None:
        self._source = source
        self._end = end
        self._found: list[tuple[str, Ref]] | None = None

    def resolve(self, name: str, refs: Sequence[Ref]) -> list[tuple[Ref, str]]:
        """Those of `refs` that have a line, each one of its own, with its value."""
        values = {ref: value for ref in refs if (value := self._value(ref, name)) is not None}
        found = {ref: ref for ref in values}
        for ref in refs:
            if ref not in found and (moved := self._nearest(ref, name, set(found.values()))) is not None:
                value = self._value(moved, name)
                if value is not None:
                    found[ref], values[ref] = moved, value
        return [(found[ref], values[ref]) for ref in refs if ref in found]

    def _nearest(self, ref: Ref, name: str, taken: set[Ref]) -> Ref | None:
        """An edit moves all later lines by the same few bytes, so the nearest of several is the one that was meant."""
        if self._found is None:
            self._found = self._search()
        same = [found for kind, found in self._found if kind == name and found.n == ref.n and found not in taken]
        return min(same, key=lambda found: abs(found.at - ref.at), default=None)

    def _value(self, ref: Ref, name: str) -> str | None:
        if not self._source.begins_line(ref.at):
            return None
        line = line_at(self._source, ref.at, self._end)
        match self._source.record(line) if line else None:
            case Snapshot(event=SetValue(name=kind, value=value), state=state) if kind == name and state.n == ref.n:
                return value
            case _:
                return None

    def _search(self) -> list[tuple[str, Ref]]:
        found = []
        for line in forwards(self._source, 0, self._end):
            record = self._source.record(line) if line.data and _SET_HINT in line.data else None
            if isinstance(record, Snapshot) and isinstance(record.event, SetValue):
                found.append((record.event.name, Ref(line.start, record.state.n)))
        return found
