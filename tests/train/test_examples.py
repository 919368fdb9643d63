"""Labels, chunks and batches of examples."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from ragx_train.data.example import (
    IGNORE,
    MULTIPLE,
    Example,
    attention,
    chunks,
    collate,
    micro_batches,
    next_tokens,
    side_by_side,
)

TOKENS = st.lists(st.integers(1, 99), min_size=1, max_size=20)
EXAMPLES = st.lists(
    st.builds(
        lambda ids, passages: Example(ids, next_tokens(ids), passages, str(ids)), TOKENS, st.lists(TOKENS, max_size=4)
    ),
    min_size=1,
    max_size=8,
)


@given(TOKENS, st.integers(0, 20))
def test_each_label_is_the_next_token_from_a_position(ids: list[int], first: int) -> None:
    labels = next_tokens(ids, first)
    assert labels == [IGNORE] * min(first, len(ids)) + [*ids[1:], IGNORE][first:]


@given(TOKENS, st.integers(1, 9))
def test_chunks_are_the_tokens(ids: list[int], size: int) -> None:
    passages = chunks(ids, size)
    assert [token for passage in passages for token in passage] == ids
    assert all(len(passage) == size for passage in passages[:-1])


@given(EXAMPLES)
def test_a_batch_holds_its_examples(examples: list[Example]) -> None:
    batch = collate(examples)
    assert batch.ids.shape[1] % MULTIPLE == 0
    assert batch.ids.shape[1] - max(len(each.ids) for each in examples) < MULTIPLE
    assert batch.tokens == sum(len(each.ids) for each in examples)
    assert batch.encoder_tokens == sum(map(len, {tuple(passage) for each in examples for passage in each.passages}))
    assert batch.predictions == sum(len(each.ids) - 1 for each in examples)
    for row, each in enumerate(examples):
        assert batch.ids[row, : len(each.ids)].tolist() == each.ids
        assert batch.labels[row, : len(each.ids)].tolist() == each.labels
        assert bool((batch.labels[row, len(each.ids) :] == IGNORE).all())
        read = [batch.passages[place][batch.passage_mask[place]].tolist() for place in batch.reads[row]]
        assert read == each.passages


@given(EXAMPLES, st.integers(1, 4))
def test_micro_batches_hold_each_example_once_sorted_by_length(examples: list[Example], size: int) -> None:
    batches = micro_batches(examples, size)
    assert sorted(origin for batch in batches for origin in batch.origins) == sorted(each.origin for each in examples)
    assert all(len(batch.origins) <= size for batch in batches)
    widths = [batch.ids.shape[1] for batch in batches]
    assert widths == sorted(widths)
    assert torch.stack([batch.labels.eq(IGNORE).all() for batch in batches]).sum() <= len(batches)


PROMPTS = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=6), min_size=1, max_size=4)
ANSWER = st.lists(st.integers(4, 9), min_size=1, max_size=3)


@given(PROMPTS, st.data())
def test_an_answer_sees_only_its_own_prompt(prompts: list[list[int]], data: st.DataObject) -> None:
    answers = [data.draw(ANSWER) for _ in prompts]
    row = side_by_side(prompts, answers, "here")
    mask, positions = attention(torch.tensor([row.segments]))
    ids, labels = torch.tensor(row.ids), torch.tensor(row.labels)
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True), start=1):
        last = max(place for place, segment in enumerate(row.segments) if segment == number)
        seen = mask[0, 0, last]
        assert ids[seen].tolist() == [*prompt, *answer][:-1]
        assert positions[0, seen].tolist() == list(range(len(prompt) + len(answer) - 1))
        assert labels[seen].tolist() == [IGNORE] * (len(prompt) - 1) + answer


def test_the_common_prefix_of_prompts_is_not_repeated() -> None:
    row = side_by_side([[1, 2, 3, 4], [1, 2, 5]], [[8], [9]], "here")
    assert row.ids == [1, 2, 3, 4, 5]
    assert row.segments == [0, 0, 1, 1, 2]
    assert row.labels == [IGNORE, IGNORE, IGNORE, 8, 9]
