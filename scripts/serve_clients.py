#!/usr/bin/env python3
"""The openai package and langchain-openai against served models.

serve_clients.py OPEN KEYED KEY NARROW: addresses of a server without a key, of one with a key, and of one that takes
one text at a time and lets none wait.
"""
import asyncio
import json
import sys
import threading
import time
import urllib.request

import openai
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI

open_url, keyed_url, key, narrow_url = sys.argv[1:]
ASK = [{"role": "user", "content": "aa bb"}]


def client(url=open_url, key="unused", **more):
    return OpenAI(base_url=f"{url}/v1", api_key=key, **more)


def refused(kind, call, **expected):
    """The error that a call raises, with what its body must say."""
    try:
        call()
    except kind as error:
        for name, value in expected.items():
            assert getattr(error, name) == value, (name, getattr(error, name), value)
        return error
    raise AssertionError(f"{kind.__name__} expected")


def chats():
    api = client()
    assert [model.id for model in api.models.list()] == ["small"]
    assert api.models.retrieve("small").owned_by == "anegpt"
    settings = dict(model="small", messages=ASK, max_completion_tokens=24)
    # The model is small: with some seeds it has nothing to say.
    answers = (api.chat.completions.create(**settings, seed=seed) for seed in range(50))
    settings["seed"], whole = next((n, one) for n, one in enumerate(answers) if one.choices[0].message.content)
    text = whole.choices[0].message.content
    assert text and whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole._request_id.startswith("req_")

    chunks = list(api.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens and not chunks[-1].choices
    assert len({chunk.id for chunk in chunks}) == 1

    with api.chat.completions.stream(**settings) as stream:
        assert any(event.type == "content.delta" for event in stream)
        assert stream.get_final_completion().choices[0].message.content == text

    several = api.chat.completions.create(**settings, n=3, logprobs=True, top_logprobs=2)
    assert several.choices[0].message.content == text
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    tokens = several.choices[0].logprobs.content
    assert bytes(byte for token in tokens for byte in token.bytes).decode(errors="replace") == text
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)

    extras = dict(top_k=1, min_p=0.1, repetition_penalty=1.1)
    one = api.chat.completions.create(**settings, extra_body=extras, logit_bias={"3": -100}, stop=["!", "zz"])
    assert "!" not in one.choices[0].message.content
    parts = [{"role": "user", "content": [{"type": "text", "text": "aa "}, {"type": "text", "text": "bb"}]}]
    same = api.chat.completions.create(**{**settings, "messages": parts})
    assert same.choices[0].message.content == text


def completions():
    api = client()
    body = json.dumps({"content": "aa bb"}).encode()
    with urllib.request.urlopen(f"{open_url}/tokenize", body) as reply:
        ids = json.load(reply)["tokens"]
    settings = dict(model="small", max_tokens=8, temperature=0)
    reply = api.completions.create(prompt=["aa bb", "cc"], n=2, **settings)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert reply.choices[0].text == reply.choices[1].text
    assert api.completions.create(prompt=[ids, ids], **settings).choices[1].index == 1

    scored = api.completions.create(prompt=ids, echo=True, logprobs=1, **settings).choices[0]
    logprobs = scored.logprobs
    assert logprobs.token_logprobs[0] is None and all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert scored.text.startswith("aa bb") and "".join(logprobs.tokens) == scored.text
    assert all(scored.text[offset:].startswith(token) for token, offset in zip(logprobs.tokens, logprobs.text_offset))
    stream = api.completions.create(prompt=ids, echo=True, stream=True, **settings)
    assert "".join(chunk.choices[0].text for chunk in stream) == scored.text


def errors():
    api = client()
    create = api.chat.completions.create
    settings = dict(model="small", messages=ASK)
    refused(openai.NotFoundError, lambda: create(model="gpt-9", messages=ASK), code="model_not_found", param="model")
    refused(openai.NotFoundError, lambda: api.models.retrieve("org/gpt-9"), code="model_not_found")
    long = [{"role": "user", "content": "aa bb " * 2000}]
    error = refused(openai.BadRequestError, lambda: create(model="small", messages=long), code="context_length_exceeded")
    assert "256" in error.message
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    refused(openai.BadRequestError, lambda: create(**settings, tools=[tool]), param="tools")
    schema = {"type": "json_object"}
    refused(openai.BadRequestError, lambda: create(**settings, response_format=schema), param="response_format")
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    refused(openai.BadRequestError, lambda: create(model="small", messages=image), param="messages[0].content[0]")
    refused(openai.BadRequestError, lambda: create(**settings, temperature=3, stream=True), param="temperature")
    refused(openai.NotFoundError, lambda: api.embeddings.create(model="small", input="aa"))

    refused(openai.AuthenticationError, client(keyed_url, "wrong").models.list, code="invalid_api_key")
    assert client(keyed_url, key).models.list().data[0].id == "small"


def retries():
    """A server that is busy says so, and a client that is patient gets its answer."""
    hasty, patient = client(narrow_url, max_retries=0), client(narrow_url, max_retries=8)
    settings = dict(model="small", messages=ASK, max_tokens=200, extra_body={"logit_bias": {"262": -100}})
    stop, busy = threading.Event(), threading.Event()

    def occupy():
        while not stop.is_set():
            try:
                for chunk in hasty.chat.completions.create(**settings, stream=True):
                    busy.set()
            except openai.RateLimitError:
                pass

    thread = threading.Thread(target=occupy)
    thread.start()
    busy.wait(30)
    for _ in range(1000):
        try:
            hasty.chat.completions.create(**settings)
        except openai.RateLimitError as error:
            assert error.code == "rate_limit_exceeded" and int(error.response.headers["retry-after"]) >= 1
            break
    else:
        raise AssertionError("a full server never refused")
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    assert patient.chat.completions.create(**{**settings, "max_tokens": 4}).choices
    thread.join()
    # A client that gives up frees the slot.
    stream = hasty.chat.completions.create(**settings, stream=True)
    next(iter(stream))
    stream.close()
    for _ in range(100):
        try:
            hasty.chat.completions.create(**{**settings, "max_tokens": 4})
            break
        except openai.RateLimitError:
            time.sleep(0.1)
    else:
        raise AssertionError("the slot of a client that left stays taken")


async def together():
    """Twelve at once, whole and streamed, equal to the same alone."""
    def settings(i):
        return dict(model="small", messages=[{"role": "user", "content": "aa " * (i % 4)}], max_tokens=20, seed=i)

    alone = [client().chat.completions.create(**settings(i)).choices[0].message.content for i in range(12)]
    async with AsyncOpenAI(base_url=f"{open_url}/v1", api_key="unused") as api:
        async def one(i):
            if i % 2:
                return (await api.chat.completions.create(**settings(i))).choices[0].message.content
            text = ""
            async for chunk in await api.chat.completions.create(**settings(i), stream=True):
                text += chunk.choices[0].delta.content or ""
            return text

        assert await asyncio.gather(*map(one, range(12))) == alone
        stream = await api.chat.completions.create(**settings(3), stream=True)
        async for _ in stream:
            break
        await stream.close()
        try:
            await api.chat.completions.create(**settings(1), tools=[{"type": "function", "function": {"name": "f"}}])
            raise AssertionError("tools are refused")
        except openai.BadRequestError as error:
            assert error.param == "tools"


def langchain():
    ready = dict(model="small", base_url=f"{open_url}/v1", api_key="unused", max_tokens=16)
    models = (ChatOpenAI(**ready, seed=seed) for seed in range(50))
    answers = ((model, model.invoke([("system", "bb"), ("human", "aa")])) for model in models)
    model, reply = next(answer for answer in answers if answer[1].content)
    assert reply.usage_metadata["output_tokens"] > 0
    chunks = list(model.stream([("system", "bb"), ("human", "aa")]))
    assert "".join(chunk.content for chunk in chunks) == reply.content
    assert [answer.content for answer in model.batch(["aa", "aa"])] == [model.invoke("aa").content] * 2
    assert asyncio.run(model.ainvoke("aa")).content == model.invoke("aa").content
    refused(openai.BadRequestError, lambda: model.bind_tools([{"name": "f", "description": "", "parameters": {}}]).invoke("aa"))


for part in (chats, completions, errors, retries, lambda: asyncio.run(together()), langchain):
    part()
print("openai and langchain-openai: all as expected")
