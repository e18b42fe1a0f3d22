"""What Telegram takes as a formatted text, and what it makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.telegram_rules import ENTITIES_LIMIT, Entity, refusal, settled, units


def entity(kind: str, offset: int, length: int, **fields: object) -> Entity:
    return {"type": kind, "offset": offset, "length": length, **fields}


TAKEN = {
    "styles cross no borders": ("abcd", [entity("bold", 0, 4), entity("italic", 1, 2)]),
    "styles of one place": ("abcd", [entity("bold", 0, 4), entity("spoiler", 0, 4), entity("underline", 0, 4)]),
    "one after the other": ("abcd", [entity("bold", 0, 2), entity("bold", 2, 2)]),
    "code with a language": ("print()", [entity("pre", 0, 7, language="python")]),
    "code in a quote": ("ab\ncd", [entity("blockquote", 0, 5), entity("pre", 3, 2), entity("code", 0, 2)]),
    "a bold link": ("abcd", [entity("text_link", 0, 4, url="https://example.org/a?b=c#d"), entity("bold", 0, 4)]),
    "a link by address": ("abcd", [entity("text_link", 0, 4, url="http://[::1]:8080/")]),
    "a link into the app": ("abcd", [entity("text_link", 0, 4, url="tg://user?id=42")]),
    "beyond the basic plane": ("😀b", [entity("bold", 0, 2), entity("italic", 2, 1)]),
    "a person": ("Olga", [entity("text_mention", 0, 4, user={"id": 42})]),
    "the last unit": ("a" * 4096, [entity("bold", 4095, 1)]),
    "blanks that are trimmed": ("\n" + "a" * 4096 + " \n", []),
    "as many as are kept": ("ab" * ENTITIES_LIMIT, [entity("bold", 2 * i, 1) for i in range(ENTITIES_LIMIT)]),
}

REFUSED = {
    "nothing": ("", [], "message text is empty"),
    "blanks": (" \n ", [], "message text is empty"),
    "one unit more": ("a" * 4097, [], "message is too long"),
    "units, not characters": ("😀" * 2049, [], "message is too long"),
    "too many bytes": ("é" * 16_385, [], "text is too long"),
    "half a character": ("a\ud83d", [], "text must be encoded in UTF-8"),
    "no type": ("ab", [{"offset": 0, "length": 1}], "can't parse MessageEntity: Can't find field \"type\""),
    "a type of its own": ("ab", [entity("loud", 0, 1)], "can't parse MessageEntity: Unsupported type specified"),
    "a text for a number": ("ab", [{**entity("bold", 0, 1), "length": "1"}], 'Field "length" must be of type Number'),
    "before the text": ("ab", [entity("bold", -1, 2)], "strict: receive an entity with incorrect offset -1"),
    "behind the text": ("ab", [entity("bold", 2, 1)], "strict: receive an entity with incorrect offset 2"),
    "no length": ("ab", [entity("bold", 1, 0)], "strict: receive an entity with incorrect length 0"),
    "past the end": ("ab", [entity("bold", 1, 2)], "beginning at UTF-16 offset 1 ends after the end of the text"),
    "begins within a pair": ("a😀b", [entity("bold", 2, 2)], "begins in a middle of a UTF-16 symbol at byte offset 5"),
    "ends within a pair": ("a😀b", [entity("bold", 0, 2)], "ends in a middle of a UTF-16 symbol at byte offset 5"),
    "nothing but blanks": ("a \n b", [entity("bold", 1, 3)], "strict: bold at 1 covers nothing but blanks"),
    "overlap": ("abcd", [entity("bold", 0, 3), entity("italic", 2, 2)], "strict: italic at 2 overlaps the end of bold"),
    "bold code": ("ab", [entity("bold", 0, 2), entity("code", 0, 2)], "strict: code at 0 must not lie in bold"),
    "bold in code": ("abcd", [entity("pre", 0, 4), entity("bold", 1, 2)], "strict: bold at 1 must not lie in pre"),
    "code in a link": (
        "ab",
        [entity("text_link", 0, 2, url="https://a.example/"), entity("code", 0, 2)],
        "strict: code at 0 must not lie in text_link",
    ),
    "bold in bold": ("abcd", [entity("bold", 0, 4), entity("bold", 1, 2)], "strict: bold at 1 must not lie in bold"),
    "the same twice": ("ab", [entity("bold", 0, 2), entity("bold", 0, 2)], "strict: bold at 0 must not lie in bold"),
    "a quote in a quote": (
        "abcd",
        [entity("blockquote", 0, 4), entity("expandable_blockquote", 1, 2)],
        "strict: expandable_blockquote at 1 must not lie in blockquote",
    ),
    "deep within": (
        "abcd",
        [entity("bold", 0, 4), entity("blockquote", 1, 3), entity("code", 2, 1)],
        "strict: code at 2 must not lie in bold",
    ),
    "a link without an address": ("ab", [entity("text_link", 0, 2)], 'Can\'t find field "url"'),
    "a link to this machine": (
        "ab",
        [entity("text_link", 0, 2, url="http://localhost:8080/x")],
        "entity URL 'http://localhost:8080/x' is invalid: Wrong HTTP URL",
    ),
    "a link by mail": ("ab", [entity("text_link", 0, 2, url="mailto:a@b.example")], "Unsupported URL protocol"),
    "a link with blanks": ("ab", [entity("text_link", 0, 2, url="https://a.example/a b")], "Wrong HTTP URL"),
    "a link to a port that is none": ("ab", [entity("text_link", 0, 2, url="https://a.example:x/")], "Wrong HTTP URL"),
    "an empty link": ("ab", [entity("text_link", 0, 2, url="")], "Unsupported URL protocol"),
    "nobody": ("ab", [entity("text_mention", 0, 2, user={})], "user not found"),
    "too many": ("ab" * 101, [entity("bold", 2 * i, 1) for i in range(101)], "strict: 101 entities; 100 are kept"),
}


@pytest.mark.parametrize(("text", "entities"), TAKEN.values(), ids=TAKEN)
def test_it_takes(text: str, entities: list[Entity]) -> None:
    """What keeps the rules has no refusal, in whatever order its entities come."""
    assert refusal(text, entities) is None
    assert refusal(text, entities[::-1]) is None


@pytest.mark.parametrize(("text", "entities", "words"), REFUSED.values(), ids=REFUSED)
def test_it_refuses(text: str, entities: list[Entity], words: str) -> None:
    """What breaks a rule is refused in the server's words, or in words that say that they are stricter."""
    assert words in (refusal(text, entities) or "")


def test_captions_are_shorter() -> None:
    """The limit of units is the caller's: captions have one of their own."""
    assert refusal("a" * 1024, limit_units=1024) is None
    assert refusal("a" * 1025, limit_units=1024) == "message is too long"


def test_it_trims_and_moves_entities_along() -> None:
    """Blanks at both ends go, control characters become blanks, and each entity stays on its words."""
    text, entities = settled(" \r\n a\tb \u202e😀 c \n ", [entity("bold", 6, 1), entity("code", 9, 4)])
    assert (text, units(text)) == ("a b 😀 c", 8)
    assert entities == [entity("bold", 2, 1), entity("code", 4, 4)]


def test_blanks_within_the_first_entity_stay() -> None:
    """The beginning is trimmed up to the first entity only."""
    assert settled("\n\n  x", [entity("pre", 2, 3)]) == ("  x", [entity("pre", 0, 3)])


@given(st.text(), st.data())
def test_what_is_settled_is_taken_as_it_is(text: str, data: st.DataObject) -> None:
    """What stands in a message can be sent again, and stands there as before."""
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, len(text)))
    given_entity = entity("bold", units(text[:begin]), units(text[begin:end]))
    if refusal(text, [given_entity]) is not None:
        return
    kept, entities = settled(text, [given_entity])
    assert refusal(kept) is None
    assert settled(kept, entities) == (kept, entities)
