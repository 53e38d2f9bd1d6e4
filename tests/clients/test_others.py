"""Other clients, as they come out of the box: LangChain always, and whichever of the others is installed."""

import json
import os
import re
import shutil
import subprocess
from typing import Any

import pytest
from pydantic import BaseModel

QUESTION = "What is 34+57?"
ASKED: Any = [{"role": "user", "content": QUESTION}]
AGAIN: Any = {"role": "user", "content": "What is 2+3?"}


class Result(BaseModel):
    """What came out."""

    result: int


@pytest.fixture
def settings(r1_server) -> dict[str, Any]:
    return {"base_url": f"{r1_server.url}/v1", "api_key": "none"}


def answered(text: str) -> bool:
    return bool(re.search(r"\\boxed\{\d+\}", text))


@pytest.mark.parametrize("responses", [False, True])
def test_langchain(settings, responses):
    from langchain_core.messages import HumanMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    more = {} if responses else {"seed": 1}
    model = ChatOpenAI(
        **settings, model="longjing-r1", max_retries=0, use_responses_api=responses, temperature=0, **more
    )
    whole = model.invoke(QUESTION)
    assert answered(whole.text) and whole.usage_metadata["output_token_details"]["reasoning"]
    assert "".join(chunk.text for chunk in model.stream(QUESTION)).rstrip() == whole.text
    assert [reply.text for reply in model.batch([QUESTION] * 2)] == [whole.text] * 2
    assert answered(model.invoke([HumanMessage(QUESTION), whole, HumanMessage("What is 2+3?")]).text)
    assert isinstance(model.with_structured_output(Result, method="json_schema").invoke("What is 2+3?"), Result)

    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    assert answered(model.bind_tools([add]).invoke(QUESTION).text)
    forced = model.bind_tools([add], tool_choice="add").invoke(QUESTION)
    assert [call["name"] for call in forced.tool_calls] == ["add"]


@pytest.mark.parametrize("mode", ["TOOLS", "TOOLS_STRICT", "JSON_SCHEMA"])
def test_instructor(settings, mode):
    instructor = pytest.importorskip("instructor")
    from openai import OpenAI

    client = instructor.from_openai(OpenAI(**settings, max_retries=0), mode=getattr(instructor.Mode, mode))
    made = client.chat.completions.create(
        model="longjing-r1", messages=ASKED, response_model=Result, max_retries=0, seed=1, max_tokens=400
    )
    assert isinstance(made, Result)


def test_litellm(settings):
    litellm = pytest.importorskip("litellm")
    where = {"api_base": settings["base_url"], "api_key": "none", "num_retries": 0}
    for provider in ("openai", "hosted_vllm", "deepseek"):
        model = f"{provider}/longjing-r1"
        first = litellm.completion(model=model, messages=ASKED, **where).choices[0].message
        history = [*ASKED, first.model_dump(), AGAIN]
        assert answered(litellm.completion(model=model, messages=history, **where).choices[0].message.content)
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(model="openai/longjing-r1", messages=[{"role": "user", "content": "x " * 5000}], **where)


def test_pydantic_ai(settings):
    pytest.importorskip("pydantic_ai")
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        model = kind("longjing-r1", provider=OpenAIProvider(**settings))
        first = Agent(model).run_sync(QUESTION)
        assert answered(Agent(model).run_sync("What is 2+3?", message_history=first.all_messages()).output)
        assert isinstance(Agent(model, output_type=Result, retries=0).run_sync(QUESTION).output, Result)


AI_SDK = """
import { generateText } from 'ai';
import { createOpenAI } from '@ai-sdk/openai';
const openai = createOpenAI({ baseURL: process.env.URL, apiKey: 'none' });
const texts = [];
for (const model of [openai('longjing-r1'), openai.chat('longjing-r1')]) {
  const first = { role: 'user', content: 'What is 34+57?' };
  const reply = await generateText({ model, messages: [first], maxRetries: 0 });
  const messages = [first, ...reply.response.messages, { role: 'user', content: 'What is 2+3?' }];
  texts.push(reply.text, (await generateText({ model, messages, maxRetries: 0 })).text);
}
console.log(JSON.stringify(texts));
"""


def test_ai_sdk(settings, tmp_path):
    """Where node is, and the folder that LONGJING_NODE_MODULES names has `ai` and `@ai-sdk/openai`."""
    node, modules = shutil.which("node"), os.environ.get("LONGJING_NODE_MODULES")
    if not node or not modules:
        pytest.skip("no node, or no LONGJING_NODE_MODULES")
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "ask.mjs").write_text(AI_SDK)
    done = subprocess.run(
        [node, "ask.mjs"], cwd=tmp_path, env=os.environ | {"URL": settings["base_url"]},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    texts = json.loads(done.stdout)
    assert len(texts) == 4 and all(map(answered, texts))
