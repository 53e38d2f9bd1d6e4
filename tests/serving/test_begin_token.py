"""A plain prompt begins as the tokenizer has it begin, once."""

import httpx
import pytest
from conftest import Running


def test_a_plain_prompt_has_the_begin_token_that_the_tokenizer_adds(
    tiny_server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_server.served.tokenizer
    monkeypatch.setattr(tokenizer, "adds_bos", True)
    begin = tokenizer.decode([tokenizer.bos_id])
    for prompt in ("12 x", f"{begin}12 x"):
        asked = {"prompt": prompt, "max_tokens": 1, "echo": True, "logprobs": 0, "seed": 1}
        reply = httpx.post(f"{tiny_server.url}/v1/completions", json=asked).json()
        assert reply["usage"]["prompt_tokens"] == len(tokenizer.encode("12 x")) + 1
        (choice,) = reply["choices"]
        assert choice["text"].startswith("12 x")
        assert choice["logprobs"]["tokens"][0] == begin and choice["logprobs"]["text_offset"][:3] == [0, 0, 1]
