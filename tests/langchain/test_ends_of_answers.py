"""What ends an answer of RagxLLM and ChatRagx: a stop string, or a caller who leaves."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ragx.langchain import ChatRagx
from tests.helpers.chains import EITHER, chain
from tests.helpers.waiting import eventually


@EITHER
@pytest.mark.parametrize("length", [1, 3])
def test_a_stop_string_ends_the_generation(kind: Any, tiny: dict[str, Any], length: int) -> None:
    whole = chain(kind(**tiny)).invoke({"q": "Why"})
    stop = whole[5 : 5 + length]
    expected = whole[: whole.index(stop)].rstrip()
    for asking in (chain(kind(**tiny, stop=[stop])), chain(kind(**tiny).bind(stop=["never there", stop]))):
        assert asking.invoke({"q": "Why"}) == expected
        assert "".join(asking.stream({"q": "Why"})) == expected
        assert asyncio.run(asking.ainvoke({"q": "Why"})) == expected
    assert chain(kind(**tiny, stop=[stop]).bind(stop=[])).invoke({"q": "Why"}) == whole
    assert eventually(lambda: not generating())


@EITHER
def test_a_single_stop_string_is_not_split_into_letters(kind: Any, tiny: dict[str, Any]) -> None:
    whole = chain(kind(**tiny)).invoke({"q": "Why"})
    assert chain(kind(**tiny).bind(stop=whole[5:8])).invoke({"q": "Why"}) == whole[: whole.index(whole[5:8])].rstrip()
    assert chain(kind(**tiny).bind(stop=whole[::-1])).invoke({"q": "Why"}) == whole


def generating() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ragx-decode"]


def test_decoding_ends_at_a_stop_string(tiny: dict[str, Any]) -> None:
    tiny |= {"max_tokens": 300, "rerank": "none"}
    whole = ChatRagx(**tiny).invoke("Why")
    stop = whole.text[8:10]
    stopped = ChatRagx(**tiny).invoke("Why", stop=[stop])
    assert stopped.usage_metadata is not None
    assert whole.usage_metadata is not None
    assert stopped.usage_metadata["output_tokens"] < 20 < whole.usage_metadata["output_tokens"]


@EITHER
def test_leaving_a_stream_ends_the_generation(kind: Any, tiny: dict[str, Any]) -> None:
    asking = kind(**tiny | {"max_tokens": 400})
    stream = asking.stream("Why")
    next(stream)
    stream.close()
    assert eventually(lambda: not generating())

    async def leave() -> None:
        stream = asking.astream("Why")
        await anext(stream)
        await stream.aclose()
        assert await asyncio.to_thread(eventually, lambda: not generating())

    asyncio.run(leave())
