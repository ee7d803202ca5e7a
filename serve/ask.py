"""One question to a server through the openai client, thinking and answer streamed as they come."""

from collections.abc import Callable

from tune.errors import UserError


def ask(
    url: str, prompt: str, *, effort: str, model: str, key: str, max_tokens: int, write: Callable[[str, bool], None]
) -> str:
    """Stream one answer; `write(text, is_thinking)` gets each piece. Returns how it ended: "stop" or "length".

    An empty `model` means the first one that the server lists. Raises UserError when the server cannot be reached
    or refuses, with its own words.
    """
    import openai

    base = url.rstrip("/").removesuffix("/v1") + "/v1"
    try:
        with openai.OpenAI(base_url=base, api_key=key or "none", max_retries=0) as client:
            model = model or client.models.list().data[0].id
            ended = ""
            chunks = client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=max_tokens,
                stream=True,
                extra_body={"reasoning_effort": effort} if effort else {},
            )
            for chunk in chunks:
                for choice in chunk.choices:
                    if thinking := getattr(choice.delta, "reasoning", None):
                        write(thinking, True)
                    if choice.delta.content:
                        write(choice.delta.content, False)
                    ended = choice.finish_reason or ended
    except openai.APIConnectionError as e:
        raise UserError(f"{base} does not answer", why=str(e.__cause__ or e), fix=f"serve wait {url}") from None
    except openai.APIStatusError as e:
        fix = {401: "--api-key-env NAME", 503: f"serve wait {url}"}.get(e.status_code, "serve ask --help")
        raise UserError(f"{base} answered {e.status_code}", why=e.message[:300], fix=fix) from None
    except openai.APIError as e:
        raise UserError(f"{base} broke off", why=e.message[:300], fix="read the engine's log") from None
    return ended
