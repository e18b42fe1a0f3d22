"""What is typed, and where it stands in a text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.errors import SearchError
from nanochat.search import Marker
from nanochat.search.words import EXCERPT_CHARS, excerpt


def marked(words: str, text: str) -> list[str] | None:
    """The words that are found in a text; None where not all are in it."""
    with Marker(words) as marker:
        found = marker.marked(text)
    return None if found is None else [found[0][start:end] for start, end in found[1]]


@pytest.mark.parametrize(
    ("words", "text", "places"),
    [
        pytest.param("tide", "High TIDE at six", ["TIDE"], id="case"),
        pytest.param("six tide", "tide at six", ["tide", "six"], id="all words, in any order"),
        pytest.param("six tide", "tide at seven", None, id="not all"),
        pytest.param("tide", "tides", None, id="whole words"),
        pytest.param("tid*", "the tides", ["tides"], id="beginning"),
        pytest.param('"tide at"', "at tide at", ["tide at"], id="phrase"),
        pytest.param('"at tide"', "tide at", None, id="phrase in its order"),
        pytest.param('"at ti"*', "at tide", ["at tide"], id="beginning of a phrase"),
        pytest.param("“at tide”", "at tide", ["at tide"], id="a phone's quotation marks"),
        pytest.param('"at tide', "at tide", ["at tide"], id="a quotation that does not end"),
        pytest.param('x"at tide"y', "x at tide y", ["x at tide y"], id="quotation between words"),
        pytest.param("ecole", "E\u0301cole", ["\u00c9cole"], id="accent"),
        pytest.param("ÉCOLE", "ecole", ["ecole"], id="accent asked for"),
        pytest.param("don't", "I don't", ["don't"], id="apostrophe"),
        pytest.param("a.b-c", "a b c", ["a b c"], id="what is no word parts words"),
        pytest.param("wide 1", "\uff57\uff49\uff44\uff45\u3000\uff11", ["wide 1"], id="wide letters"),
        pytest.param("привет", "Привет, мир", ["Привет"], id="cyrillic"),
        pytest.param("हिन्दी", "मैं हिन्दी बोलता", ["हिन्दी"], id="hindi"),
        pytest.param("हान्दा", "मैं हिन्दी बोलता", None, id="hindi, other vowels"),
        pytest.param("東京", "私は東京タワーに行った", ["東京"], id="chinese characters"),
        pytest.param("京東", "東京", None, id="in their order"),
        pytest.param("タワー", "東京ﾀﾜｰ", ["タワー"], id="narrow katakana"),
        pytest.param("학교", "학교에서 왔다", ["학교"], id="korean, without its ending"),
        pytest.param("ไทย", "ภาษาไทยง่าย", ["ไทย"], id="thai"),
        pytest.param("汉字abc", "写汉字ABC", ["汉字ABC"], id="mixed"),
        pytest.param("AND OR NOT NEAR(a)", "and or not near a", ["and or not near a"], id="words of SQLite"),
        pytest.param("text:x {y} ^z -v", "v z y text x", ["v z y", "text x"], id="signs of SQLite"),
        pytest.param("!! tide ??", "tide", ["tide"], id="what has no word is passed over"),
        pytest.param("a\ud800b\x00c", "a b c", ["a b c"], id="what is no character"),
    ],
)  # fmt: skip
def test_what_is_found(words: str, text: str, places: list[str] | None) -> None:
    """All words, phrases and beginnings, in any writing."""
    found = marked(words, text)
    # Neighbours are marked as one: what stands between two places that touch tells nothing.
    joined = found if found is None or places is None else " ".join(found).split()
    assert joined == (places if places is None else " ".join(places).split())


@pytest.mark.parametrize("words", ["", "  ", "!!!", "*", '""', '"', "\ue000", "\ud800"])
def test_without_a_word_it_says_what_it_takes(words: str) -> None:
    """One line, with the ways to ask."""
    with pytest.raises(SearchError, match="all of which must occur"):
        Marker(words)


def test_a_long_query_is_refused() -> None:
    """It says how long it may be."""
    with pytest.raises(SearchError, match="1,000 characters at most"):
        Marker("word " * 300)


@settings(deadline=None)
@given(st.text(max_size=80), st.text(max_size=80))
def test_nothing_that_is_typed_breaks_it(words: str, text: str) -> None:
    """Whatever the characters: places inside the text, or a plain refusal."""
    try:
        marker = Marker(words)
    except SearchError:
        return
    with marker:
        found = marker.marked(text)
        if found is not None:
            fitted, places = found
            assert all(0 <= start < end <= len(fitted) for start, end in places)
            assert marker.places(fitted) == places


@settings(deadline=None)
@given(st.text(alphabet=st.characters(categories=("Ll", "Lu", "Lo", "Nd")), min_size=1, max_size=20))
def test_a_word_is_found_in_its_text(word: str) -> None:
    """What is a word to those who type is one to SQLite, unless its tables do not know the letter yet."""
    try:
        assert marked(word, f"so {word} said") is not None
    except SearchError:
        assert not any(ord(character) < 0x500 for character in word)


class TestExcerpt:
    """Some words around the first place."""

    def test_short_texts_are_whole(self) -> None:
        """On one line."""
        assert excerpt("high\n\n tide", [(0, 4)]) == "high tide"

    def test_long_texts_are_cut_between_words(self) -> None:
        """The place is in it, and the cuts are marked."""
        text = "before " * 50 + "TIDE" + " after" * 50
        cut = excerpt(text, [(350, 354)])
        assert "TIDE" in cut
        assert cut.startswith("…before ")
        assert cut.endswith(" after…")
        assert len(cut) <= EXCERPT_CHARS + 2

    def test_the_words_are_found_in_it_again(self) -> None:
        """Where they stand in it, whatever stands before them."""
        with Marker("tide 京") as marker:
            found = marker.marked("before… " * 50 + "a 京 TIDE" + " after…" * 50)
            assert found is not None
            cut = excerpt(*found)
            assert [cut[start:end] for start, end in marker.places(cut)] == ["京", "TIDE"]

    def test_a_text_without_spaces(self) -> None:
        """Is cut where it must be."""
        cut = excerpt("x" * 500 + "京" + "y" * 500, [(500, 501)])
        assert "京" in cut
        assert len(cut) <= EXCERPT_CHARS + 2
