"""A visitor's conversations: what is kept of them, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragx_apps.chat.chats import KEPT_BYTES, KEPT_CHATS, KEPT_TURNS, Chat, Chats, dump_chats, load_chats
from ragx_apps.chat.conversation import Reply, Source, Turn

TURNS = st.lists(st.builds(Turn, question=st.text(), index=st.text()), min_size=1, max_size=3)
CHATS = st.lists(st.builds(Chat, id=st.uuids().map(str), name=st.text(), turns=TURNS), max_size=3).map(
    lambda chats: Chats(chats=tuple(chats), open=chats[-1].id if chats else "")
)


def asked(*questions: str) -> list[Turn]:
    return [Turn(question=question, index="notes") for question in questions]


def long_turn(question: str, share: float) -> Turn:
    """A turn whose passages take this share of what is kept."""
    source = Source(id="a", title="a", place="b", text="é" * int(KEPT_BYTES * share / 2))  # two bytes each
    return Turn(question=question, index="a", replies=[Reply(reader="cepe", sources=[source])])


@given(CHATS)
def test_conversations_survive_a_round_trip(chats: Chats) -> None:
    assert load_chats(dump_chats(chats)) == chats


@pytest.mark.parametrize("kept", [None, 3, "x", [], [{}], {"chats": [{}]}, {"chats": 3}, {"more": 1}])
def test_other_stored_values_are_ignored(kept: object) -> None:
    assert load_chats(kept) == Chats()


def test_a_new_conversation_is_named_by_its_first_question() -> None:
    chats = Chats().with_turns(asked("Is snow\n bright?"))
    assert (chats.name, chats.turns) == ("Is snow bright?", asked("Is snow\n bright?"))
    assert len(Chats().with_turns(asked("x" * 500)).name) < 100


def test_the_last_used_conversation_comes_first() -> None:
    first = Chats().with_turns(asked("A?"))
    second = first.opened("").with_turns(asked("B?"))
    assert [chat.name for chat in second.chats] == ["B?", "A?"]
    again = second.opened(first.open)
    assert again.turns == asked("A?")
    more = again.with_turns(asked("A?", "And?"))
    assert [chat.name for chat in more.chats] == ["A?", "B?"]
    assert more.turns == asked("A?", "And?")


def test_an_unknown_conversation_opens_a_new_one() -> None:
    assert Chats().with_turns(asked("A?")).opened("gone").open == ""


def test_a_conversation_is_renamed_and_deleted() -> None:
    chats = Chats().with_turns(asked("A?")).opened("").with_turns(asked("B?"))
    assert [chat.name for chat in chats.renamed(" About\nsnow ").chats] == ["About snow", "A?"]
    assert chats.renamed("  ") == chats
    assert [chat.name for chat in chats.deleted().chats] == ["A?"]
    assert chats.deleted().turns == []


def test_a_browser_keeps_the_last_turns_and_conversations() -> None:
    chats = Chats()
    for number in range(KEPT_CHATS + 2):
        chats = chats.opened("").with_turns(asked(f"{number}?"))
    many = chats.with_turns(asked(*map(str, range(KEPT_TURNS + 5))))
    kept = load_chats(dump_chats(many))
    assert kept.chats[0].turns == many.turns[5:]
    assert kept.chats[1:] == many.chats[1:KEPT_CHATS]


def test_a_browser_keeps_no_more_text_than_it_can_store() -> None:
    old = Chats().with_turns([long_turn("a", 0.4)])
    new = old.opened("").with_turns([long_turn(question, 0.4) for question in "bcd"])
    kept = load_chats(dump_chats(new))
    assert [[turn.question for turn in chat.turns] for chat in kept.chats] == [["c", "d"]]
    longest = new.with_turns([long_turn("e", 1.5)])
    assert load_chats(dump_chats(longest)).turns == longest.turns
