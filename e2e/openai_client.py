"""Every part of the API that the `openai` package uses, against a running gateway.

    python openai_client.py BASE_URL [API_KEY]

Each check is a function; all of them run, and the exit code is 1 when one failed. The answers of a model are not
known here, so the checks compare answers with one another: a stream with the whole text, a seed with itself.
"""

import concurrent.futures
import sys
import threading
import time
import traceback

import openai

PROMPT = "Once upon a time"
MESSAGES = [{"role": "user", "content": "Tell me a story about a brave rabbit."}]
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def same(name, got, expected):
    assert got == expected, f"{name}: got {got!r}, expected {expected!r}"


def raises(kind, code, call, **arguments):
    try:
        call(**arguments)
    except kind as error:
        same("code", error.code, code)
        return error
    raise AssertionError(f"{kind.__name__} was expected for {arguments}")


@check
def models(client, model):
    same("models", [entry.id for entry in client.models.list()], [model])
    same("model", client.models.retrieve(model).id, model)
    raises(openai.NotFoundError, "model_not_found", client.models.retrieve, model="no-such-model")


@check
def chat(client, model):
    answer = client.chat.completions.create(model=model, messages=MESSAGES, temperature=0, max_tokens=24)
    choice = answer.choices[0]
    same("object", answer.object, "chat.completion")
    same("role", choice.message.role, "assistant")
    assert choice.message.content.strip(), "the answer is empty"
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    same("total", usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    assert 0 < usage.completion_tokens <= 24
    parts = [{"role": "user", "content": [{"type": "text", "text": MESSAGES[0]["content"]}]}]
    again = client.chat.completions.create(model=model, messages=parts, temperature=0, max_completion_tokens=24)
    same("text parts", again.choices[0].message.content, choice.message.content)


@check
def completion(client, model):
    def text(**more):
        answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=24, **more)
        return answer.choices[0].text

    greedy = text(temperature=0)
    assert greedy.strip(), "the answer is empty"
    same("greedy twice", text(temperature=0), greedy)
    same("echo", text(temperature=0, echo=True), PROMPT + greedy)
    same("a seed twice", text(seed=7), text(seed=7))
    several = client.completions.create(model=model, prompt=[PROMPT, PROMPT], n=2, max_tokens=8, temperature=0)
    same("indices", [choice.index for choice in several.choices], [0, 1, 2, 3])
    same("texts", len({choice.text for choice in several.choices}), 1)


@check
def streaming(client, model):
    request = dict(model=model, messages=MESSAGES, temperature=0, max_tokens=24)
    whole = client.chat.completions.create(**request)
    stream = client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
    text, finish, usage, timings = "", None, None, None
    for chunk in stream:
        same("object", chunk.object, "chat.completion.chunk")
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        usage = chunk.usage or usage
        timings = getattr(chunk, "timings", None) or timings
    same("text", text, whole.choices[0].message.content)
    same("finish", finish, whole.choices[0].finish_reason)
    same("usage", usage.completion_tokens, whole.usage.completion_tokens)
    same("timings", timings["predicted_n"], usage.completion_tokens)
    assert timings["stages"], "no stage told its time"

    request = dict(model=model, prompt=PROMPT, temperature=0, max_tokens=24)
    whole = client.completions.create(**request).choices[0].text
    parts = [chunk.choices[0].text for chunk in client.completions.create(**request, stream=True)]
    same("completion", "".join(parts), whole)
    assert len(parts) > 2, f"the answer came in {len(parts)} parts"


@check
def stop(client, model):
    request = dict(model=model, prompt=PROMPT, temperature=0, max_tokens=32)
    whole = client.completions.create(**request)
    text = whole.choices[0].text
    mark = text[len(text) // 2 :][:5]
    for stream in (False, True):
        answer = client.completions.create(**request, stop=[mark, "never in it"], stream=stream)
        chunks = list(answer) if stream else [answer]
        same("text", "".join(chunk.choices[0].text for chunk in chunks), text[: text.index(mark)])
        same("finish", chunks[-1].choices[0].finish_reason, "stop")
        if not stream:
            assert answer.usage.completion_tokens < whole.usage.completion_tokens


@check
def logprobs(client, model):
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, temperature=0, max_tokens=8, logprobs=True, top_logprobs=3
    )
    choice = answer.choices[0]
    entries = choice.logprobs.content
    same("entries", len(entries), answer.usage.completion_tokens)
    for entry in entries:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 3, entry
        same("greedy token", entry.top_logprobs[0].bytes, entry.bytes)
    spelled = b"".join(bytes(entry.bytes) for entry in entries).decode("utf-8", "replace")
    same("bytes", spelled.strip(), choice.message.content.strip())

    answer = client.completions.create(model=model, prompt=PROMPT, temperature=0, max_tokens=8, logprobs=2)
    found = answer.choices[0].logprobs
    same("tokens", "".join(found.tokens), answer.choices[0].text)
    same("lengths", {len(found.token_logprobs), len(found.top_logprobs), len(found.text_offset)}, {len(found.tokens)})


@check
def errors(client, model):
    chat, text = client.chat.completions.create, client.completions.create
    raises(openai.NotFoundError, "model_not_found", chat, model="gpt-4", messages=MESSAGES)
    error = raises(openai.BadRequestError, "invalid_value", chat, model=model, messages=MESSAGES, temperature=9)
    same("param", error.param, "temperature")
    raises(openai.BadRequestError, "invalid_value", chat, model=model, messages=[])
    raises(openai.BadRequestError, "unsupported_parameter", text, model=model, prompt=PROMPT, suffix="The end.")
    long = "word " * 200_000
    raises(openai.BadRequestError, "context_length_exceeded", text, model=model, prompt=long)
    raises(openai.APIStatusError, "body_too_large", text, model=model, prompt=long * 10)


@check
def special_tokens_stay_text(client, model):
    plain = client.chat.completions.create(model=model, messages=MESSAGES, temperature=0, max_tokens=1)
    inject = [{"role": "user", "content": MESSAGES[0]["content"] + "</s><|im_end|><|eot_id|>"}]
    answer = client.chat.completions.create(model=model, messages=inject, temperature=0, max_tokens=1)
    grown = answer.usage.prompt_tokens - plain.usage.prompt_tokens
    assert grown > 9, f"three names of special tokens were encoded as {grown} tokens"


@check
def cancellation(client, model):
    """More streams are dropped than the fleet has slots; then an answer still comes at once."""
    for _ in range(12):
        stream = client.completions.create(model=model, prompt=PROMPT, stream=True, extra_body={"ignored": 1})
        next(iter(stream))
        stream.close()
    began = time.monotonic()
    client.completions.create(model=model, prompt=PROMPT, max_tokens=2)
    assert time.monotonic() - began < 10, "the slots of cancelled answers are still taken"


@check
def four_at_once(client, model):
    request = dict(model=model, prompt=PROMPT, temperature=0, max_tokens=32)
    alone = client.completions.create(**request).choices[0].text
    ready = threading.Barrier(4)

    def ask(_):
        ready.wait()
        return client.completions.create(**request).choices[0].text

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        same("texts", set(pool.map(ask, range(4))), {alone})


def main():
    base, key = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "none"
    client = openai.OpenAI(base_url=base, api_key=key, max_retries=0, timeout=120)
    model = client.models.list().data[0].id
    print(f"openai {openai.__version__}, {base}, {model}")
    failed = 0
    for function in CHECKS:
        began = time.monotonic()
        try:
            function(client, model)
            print(f"ok    {function.__name__} ({time.monotonic() - began:.1f} s)")
        except Exception:
            failed += 1
            print(f"FAIL  {function.__name__}")
            traceback.print_exc()
    print("all as it should be" if not failed else f"{failed} of {len(CHECKS)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
