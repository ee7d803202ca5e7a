"""How a deployed endpoint is reached, in words and as code: a ClientInfo in, text out. Of secrets it has the names."""

import json
import shlex

from evalsuite.asking.client_info import ClientInfo

PROMPT = "What does bisect.insort do?"
TOKEN = "AWS_BEARER_TOKEN"  # of a signed endpoint, for curl  # noqa: S105  # a name


def words(info: ClientInfo) -> str:
    """Address, model, key and headers, a line each."""
    lines = [f"base_url  {info.base_url}", f"model     {info.model}"]
    if info.signed:
        lines.append(f"key       a bearer token of at most 12 hours, signed with AWS credentials ({info.region})")
    elif info.key_env:
        lines.append(f"key       ${info.key_env}")
    lines += [f"header    {name}: ${variable}" for name, variable in info.headers.items()]
    if info.patience_seconds:
        told = ", ".join(map(str, info.retry))
        lines.append(f"not yet   {told}: ask again, for up to {info.patience_seconds} s (a cold start)")
    if info.stream:
        lines.append("stream    always: an answer that is not streamed is cut off")
    if info.answer_seconds:
        lines.append(f"cut off   after {info.answer_seconds} s, whatever the answer")
    return "\n".join(lines)


def python(info: ClientInfo) -> str:
    """A program for the openai client."""
    key = f'os.environ["{info.key_env}"]' if info.key_env else '"none"'
    lines = ["import os", ""] if info.key_env or info.headers else []
    if info.signed:
        key = f"lambda: generate_token(region={info.region!r})"  # the client asks for it at each request
        lines = [*lines[:1], *([""] if lines else []), "from sagemaker.core.token_generator import generate_token"]
    headers = ", ".join(f'{name!r}: os.environ["{variable}"]' for name, variable in info.headers.items())
    given = [f"base_url={info.base_url!r}", f"api_key={key}"]
    given += [f"default_headers={{{headers}}}"] if headers else []
    given += [f"max_retries={max(2, info.patience_seconds // 8)}"]  # its waits grow to 8 s
    asked = [f"model={info.model!r}", f'messages=[{{"role": "user", "content": {PROMPT!r}}}]']
    lines += ["from openai import OpenAI", "", "client = OpenAI(", *(f"    {g}," for g in given), ")"]
    if info.stream:
        asked.append("stream=True")
    lines += ["answer = client.chat.completions.create(", *(f"    {a}," for a in asked), ")"]
    if info.stream:
        lines += ["for chunk in answer:", "    for choice in chunk.choices:"]
        lines += ['        print(choice.delta.content or "", end="", flush=True)', "print()"]
    else:
        lines.append("print(answer.choices[0].message.content)")
    return "\n".join(lines)


def curl(info: ClientInfo) -> str:
    """A command line. The key's variable is read by the shell: its value would stand in the list of processes, so it
    goes to curl by a file that is none."""
    key = info.key_env or (TOKEN if info.signed else "")
    secret = {name: f"${{{variable}}}" for name, variable in info.headers.items()}
    if key:
        secret["authorization"] = f"Bearer ${{{key}}}"
    body = {"model": info.model, "messages": [{"role": "user", "content": PROMPT}]} | (
        {"stream": True} if info.stream else {}
    )
    lines = [f"curl --fail-with-body --no-buffer {shlex.quote(f'{info.base_url}/chat/completions')}"]
    if info.patience_seconds:
        lines[0] += f" --retry 100 --retry-max-time {info.patience_seconds}"
    lines += ["  -H 'content-type: application/json'", f"  -d {shlex.quote(json.dumps(body))}"]
    text = " \\\n".join(lines)
    if not secret:
        return text
    told = "\n".join(f"{name}: {value}" for name, value in secret.items())
    return f"{text} \\\n  -H @- <<HEADERS\n{told}\nHEADERS"
