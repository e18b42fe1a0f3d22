"""Updates find their session, however strange they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanochat.channels.telegram.envelopes import BotName, Envelopes, facts_of, key_of, length_units, room_of
from nanochat.channels.telegram.wire import Room
from nanochat.keys import SessionKey

BOT = BotName(123456, "nano_test_bot")
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def message(**more: Any) -> dict[str, Any]:
    who = {"id": 5, "is_bot": False, "first_name": "Olga"}
    chat = {"id": 5, "type": "private"}
    return {"update_id": 7, "message": {"message_id": 1, "chat": chat, "from": who, "date": 1, "text": "hi", **more}}


def test_an_id_that_no_table_takes_is_nobody() -> None:
    """In either direction."""
    for user_id in (2**70, -(2**70)):
        facts = facts_of(message(**{"from": {"id": user_id, "first_name": "Eve"}}), BOT)
        assert facts is not None
        assert facts.user_id == 0


@given(st.integers(-(10**13), 10**13).filter(bool), st.none() | st.integers(1, 10**9))
def test_rooms_and_keys_are_the_same(chat: int, thread: int | None) -> None:
    """Each tells the other."""
    assert room_of(key_of(Room(chat, thread))) == Room(chat, thread)


@pytest.mark.parametrize("key", ["cli:1", "telegram:x", "telegram:1:2:3", "telegram:unreadable", "telegram:1 2"])
def test_other_keys_are_no_rooms(key: str) -> None:
    """Nothing is guessed."""
    assert room_of(SessionKey.parse(key)) is None


def test_lengths_are_counted_as_telegram_does() -> None:
    """Also of halves of characters."""
    assert [length_units(text) for text in ("a", "é", "🙂", "\ud83d")] == [1, 1, 2, 1]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "message",
                        "edited_message",
                        "callback_query",
                        "chat",
                        "from",
                        "id",
                        "message_id",
                        "update_id",
                        "text",
                    ),
                    *("entities", "type", "offset", "length", "reply_to_message", "media_group_id", "is_topic_message"),
                    *("message_thread_id", "caption", "user", "sender_chat"),
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


@given(_json)
def test_no_update_makes_it_stumble(noise: Any) -> None:
    """Anything in the place of a message is routed or left alone."""
    for update in (
        {"update_id": 1, "message": noise},
        {"update_id": 1, "callback_query": noise},
        message(entities=noise),
    ):
        envelopes = Envelopes(BOT.id, "mention", lambda: NOW)
        facts = facts_of(update, BOT)
        if facts is None:
            assert envelopes.unreadable(update).body
        elif facts.kind and envelopes.hears(facts):
            envelopes.pack(facts, update)


def test_halves_of_characters_can_be_stored() -> None:
    """The body is text that a database takes."""
    update = message(text="a\ud83d")
    facts = facts_of(update, BOT)
    assert facts is not None
    envelope = Envelopes(BOT.id, "mention", lambda: NOW).pack(facts, update)
    assert envelope.body.encode()


def test_a_split_text_is_open_for_a_moment() -> None:
    """Then the next text is one of its own."""
    now = NOW
    envelopes = Envelopes(BOT.id, "mention", lambda: now)

    def pack(text: str, number: int) -> tuple[str, datetime | None]:
        update = message(text=text, message_id=number) | {"update_id": number}
        facts = facts_of(update, BOT)
        assert facts is not None
        envelope = envelopes.pack(facts, update)
        return envelope.group, envelope.ready_at

    first = pack("x" * 4096, 1)
    assert first[1] == NOW + timedelta(seconds=1)
    assert pack("and the rest", 2) == (first[0], NOW)
    assert pack("something else", 3) == ("", None)
    assert pack("y" * 4096, 4)[0] != first[0]
    now = NOW + timedelta(seconds=2)
    assert pack("much later", 5) == ("", None)
    pack("z" * 4096, 6)
    assert pack("/stop", 7) == ("", None)


def test_what_could_not_be_kept_is_packed_the_same_way() -> None:
    """However late it comes again, and whichever part of a split text it is."""
    now = NOW
    envelopes = Envelopes(BOT.id, "mention", lambda: now)
    groups = []
    for number, text in enumerate(("x" * 4096, "y" * 4096, "and the rest"), start=1):
        update = message(text=text, message_id=number)
        facts = facts_of(update, BOT)
        assert facts is not None
        groups.append(envelopes.pack(facts, update).group)
        now += timedelta(seconds=30)
        assert envelopes.pack(facts, update).group == groups[-1]
        now -= timedelta(seconds=30)
    assert len(set(groups)) == 1


def test_a_number_that_is_no_id_is_nobody() -> None:
    """Whoever asks a database for it is not made to stumble."""
    for number, user_id in ((2**52 - 1, 2**52 - 1), (2**52, 0), (10**30, 0), ("5", 0)):
        facts = facts_of(message(**{"from": {"id": number, "is_bot": False, "first_name": "Olga"}}), BOT)
        assert facts is not None
        assert facts.user_id == user_id


def test_other_bots_and_anonymous_admins() -> None:
    """A bot is not heard; who writes in the group's name is, with the group."""
    bot = {"id": 9, "is_bot": True, "first_name": "Bot"}
    other, anonymous = (
        facts_of(message(**{"from": bot}), BOT),
        facts_of(message(**{"from": bot}, sender_chat={"id": 5}), BOT),
    )
    assert other is not None
    assert other.is_bot
    assert anonymous is not None
    assert not anonymous.is_bot
