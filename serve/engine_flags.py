"""What follows `--` on serve's command lines: flags for the engine in, what they change of our reckoning out.

The engine takes the last of two equal flags, so these win over ours. A flag that would undo what was checked is refused
with what to say instead; one that decides memory is read; one that the engine does not take is named before it starts.
Names are those of vLLM 0.32, whose parser also takes underscores, `=`, dotted keys and abbreviations. Starts nothing.
"""

import difflib
import json
import re
from collections.abc import Sequence
from contextlib import suppress

from pydantic import ValidationError

from serve.memory import Tuning
from serve.vllm_flags import TAKES

TOKENIZER = "the tokenizer is the one in FOLDER"
PROMPT = "the prompt is the one that was trained on, from the harmony library"
PARSER = "the harmony format has one parser, which is set"
ARCHITECTURE = "what FOLDER holds was checked by its config.json"
QUANTIZED = "how weights are packed is the checkpoint's: tune export --format mxfp4 or merged"
WEIGHTS = "the weights are the files in FOLDER"
ENDS = "ends and sampling defaults are those of FOLDER/generation_config.json"
CHAT = "a checkpoint of this kind is served as a chat model"
DOOR = "requests come in by --host and --port"
TLS = "use --tls-cert and --tls-key before the --"
ADAPTER = "use --adapter NAME=FOLDER, --adapter-rank and --adapter-slots before the --, which prove what is loaded"

# Flags that would undo what was checked, or show a secret, and what to say instead.
REFUSED = {
    "--model": "the model is FOLDER",
    "--served-model-name": "use --name",
    "--host": "use --host before the --",
    "--port": "use --port before the --",
    "--api-key": "it would show the key to every process and log; use --api-key-env NAME",
    "--hf-token": "it would show the token to every process and log, and nothing is fetched",
    "--middleware": "requests pass serve's own",
    "--config": "a file can hold any flag; write the flags after the --",
    "--max-model-len": "use --max-model-len before the --, or [serve] max_model_len",
    "--dtype": "checkpoints are bfloat16; a processor without instructions for that computes in float32 by itself",
    "--tokenizer": TOKENIZER,
    "--tokenizer-mode": TOKENIZER,
    "--tokenizer-revision": TOKENIZER,
    "--skip-tokenizer-init": TOKENIZER,
    "--chat-template": PROMPT,
    "--chat-template-content-format": PROMPT,
    "--default-chat-template-kwargs": PROMPT,
    "--trust-request-chat-template": PROMPT,
    "--enable-prompt-embeds": PROMPT,
    "--reasoning-config": "where a thought begins and ends is set; [serve] thinking_tokens limits it",
    "--reasoning-parser": PARSER,
    "--reasoning-parser-plugin": PARSER,
    "--tool-call-parser": PARSER,
    "--tool-parser-plugin": PARSER,
    "--no-enable-auto-tool-choice": "a chat answer that calls a tool would come back empty",
    "--no-enable-scale-out": "the prompt of each effort is checked through it before the server is ready",
    "--disable-log-stats": "an engine that hangs is noticed by what it tells of its steps",
    "--tokens-only": "the engine would answer ids instead of text",
    "--hf-overrides": ARCHITECTURE,
    "--hf-config-path": ARCHITECTURE,
    "--model-class-overrides": ARCHITECTURE,
    "--disable-sliding-window": ARCHITECTURE,
    "--quantization": QUANTIZED,
    "--quantization-config": QUANTIZED,
    "--load-format": WEIGHTS,
    "--revision": WEIGHTS,
    "--code-revision": WEIGHTS,
    "--generation-config": ENDS,
    "--override-generation-config": ENDS,
    "--runner": CHAT,
    "--convert": CHAT,
    "--pooler-config": CHAT,
    "--uds": DOOR,
    "--grpc": DOOR,
    "--headless": DOOR,
    "--ssl-keyfile": TLS,
    "--ssl-certfile": TLS,
    "--ssl-ca-certs": "nobody is asked for a client certificate: keys say who comes in",
    "--enable-ssl-refresh": "the files of --tls-cert and --tls-key are read again when they change",
    "--enable-lora": ADAPTER,
    "--lora-modules": ADAPTER,
    "--lora-target-modules": ADAPTER,
    "--max-lora-rank": ADAPTER,
    "--max-loras": ADAPTER,
    "--max-cpu-loras": ADAPTER,
    "--help": "it would end at once; python -m serve.launcher --help=all shows every flag that it takes",
}
# The engine's short forms of refused ones, with or without a value right behind.
SHORT = {"-q": "--quantization", "-h": "--help"}
# Files that hold the same weights can be read in several ways.
LOADERS = {"auto", "safetensors", "fastsafetensors", "instanttensor", "runai_streamer"}

# Flags that decide memory, and the field that they set.
READ = {
    "--tensor-parallel-size": "tensor_parallel",
    "-tp": "tensor_parallel",
    "--pipeline-parallel-size": "pipeline_parallel",
    "-pp": "pipeline_parallel",
    "--data-parallel-size": "data_parallel",
    "-dp": "data_parallel",
    "--gpu-memory-utilization": "utilisation",
    "--device-memory-utilization": "utilisation",
    "--kv-cache-dtype": "cache_element",
    "--kv-cache-memory-bytes": "cache_bytes",
    "--max-num-batched-tokens": "batched_tokens",
    "--max-num-seqs": "sequences",
    "--nnodes": "hosts",
    "-n": "hosts",
}
SWITCHED = {
    "--enforce-eager": ("eager", True),
    "--no-enforce-eager": ("eager", False),
    "--enable-expert-parallel": ("expert_parallel", True),
    "--no-enable-expert-parallel": ("expert_parallel", False),
    "-ep": ("expert_parallel", True),
    "--disable-hybrid-kv-cache-manager": ("hybrid", False),
    "--no-disable-hybrid-kv-cache-manager": ("hybrid", True),
}
CAPTURED, CONNECTED, OFFLOADED = "--cudagraph-capture-sizes", "--kv-transfer-config", "--kv-offloading-backend"
LARGEST = "--max-cudagraph-capture-size"
COUNTED = (*READ, *SWITCHED, CAPTURED, LARGEST, CONNECTED, OFFLOADED)
# Connectors beside which vLLM 0.32 lets sliding layers keep their window alone (its SupportsHMA); MultiConnector does
# when all of its own do. Beside any other, LMCache's among them, and where none is known, they keep every token.
WINDOWED = {
    "DecodeBenchConnector", "ExampleHiddenStatesConnector", "HiSparseConnector", "MoRIIOConnector", "MooncakeConnector",
    "MooncakeStoreConnector", "NixlConnector", "NixlPullConnector", "NixlPushConnector", "OffloadingConnector",
    "SimpleCPUOffloadConnector",
}  # fmt: skip
SUFFIXES = {s: 1000**n for n, s in enumerate("kmgt", 1)} | {s: 1024**n for n, s in enumerate("KMGT", 1)}


def read(words: Sequence[str]) -> Tuning:
    """What the flags say about memory. Raises ValueError for one that is refused, that the engine does not take, or
    that has no such value."""
    found: dict[str, object] = {}
    windowed = True
    at = 0
    while at < len(words):
        word, at = words[at], at + 1
        if not _is_flag(word):
            raise ValueError(f"{word!r} is no flag of the engine, and no flag before it takes it")
        shown, equals, value = word.partition("=")
        name, dotted, _ = shown.partition(".")  # one key of a JSON value
        name = name.replace("_", "-") if name.startswith("--") else name
        following = value if equals else words[at] if at < len(words) else ""
        if name not in COUNTED and not (name == "--load-format" and following in LOADERS):
            _refuse(shown, name)
        name, attached = _meant(shown, name)
        values = [value] if equals else [attached] if attached else []
        most = 1 if dotted else TAKES[name]
        while not (equals or attached) and at < len(words) and (most is None or len(values) < most):
            if _is_flag(words[at]) and not dotted:  # the engine takes whatever stands behind a key
                break
            values.append(words[at])
            at += 1
        if TAKES[name] == 0 and values:
            raise ValueError(f"{shown} takes no value")
        if TAKES[name] != 0 and not values:
            raise ValueError(f"{shown} needs a value")
        if name in SWITCHED:
            found[SWITCHED[name][0]] = SWITCHED[name][1]
        elif name == CAPTURED:
            found["graphs"] = len(values)
        elif name == LARGEST:
            found["graphs"] = _graphs(_value(shown, name, values[0]))
        elif name == OFFLOADED:
            windowed &= values[0] == "native"
        elif name == CONNECTED:
            windowed &= _windowed(shown, shown.partition(".")[2] if dotted else "", values[0])
        elif name in READ:
            found[READ[name]] = _value(shown, READ[name], values[0])
    try:
        return Tuning.model_validate({"hybrid": windowed, **found})
    except ValidationError as e:
        field = str(e.errors()[0]["loc"][0])
        flag = next(f for f, meant in READ.items() if meant == field)
        raise ValueError(f"{flag} {found[field]}: {e.errors()[0]['msg']}") from None


def names(words: Sequence[str]) -> set[str]:
    """The flags among words that `read` takes, in full."""
    found = set()
    for word in filter(_is_flag, words):
        shown = re.split(r"[=.]", word, maxsplit=1)[0]
        with suppress(ValueError):  # the value of a dotted key
            found.add(_meant(shown, shown.replace("_", "-"))[0])
    return found


def _graphs(largest: object) -> int:
    """Sizes of batch that the engine captures by itself up to the largest one."""
    most = int(str(largest))
    return sum(n <= most for n in (1, 2, 4)) + len(range(8, min(most + 1, 256), 8)) + len(range(256, most + 1, 16))


def _is_flag(word: str) -> bool:
    return bool(re.match(r"--?[A-Za-z]", word)) and " " not in word.partition("=")[0]


def _meant(shown: str, name: str) -> tuple[str, str]:
    """The flag in full, and a value written right behind a short one. Raises ValueError when the engine has no such."""
    if name in TAKES:
        return name, ""
    if name.startswith("-O"):
        return "--optimization-level", shown[2:]
    if name[:2] in TAKES:
        return name[:2], shown[2:]
    begun = [flag for flag in TAKES if flag.startswith(name)]
    if len(begun) == 1:
        return begun[0], ""
    if begun:
        raise ValueError(f"{shown} is short for several: {', '.join(begun[:3])}{', …' if begun[3:] else ''}")
    near = difflib.get_close_matches(name, TAKES, 1)
    instead = f"{near[0]} is one" if near else "serve's own stand before the --"
    raise ValueError(f"{shown} is no flag of vLLM 0.32: {instead}")


def _refuse(shown: str, name: str) -> None:
    """Raise ValueError when the engine could take `name` for a flag that is refused or read: it knows abbreviations."""
    name = next((long for short, long in SHORT.items() if name.startswith(short)), name)
    if len(name) > 2:
        if meant := next((f for f in REFUSED if f.startswith(name)), None):
            raise ValueError(f"{shown} is not for the engine: {REFUSED[meant]}")
        if meant := next((f for f in COUNTED if f.startswith(name)), None):
            raise ValueError(f"{shown} is short for {meant}: write it in full, so that it can be counted")
    elif meant := next((f for f in COUNTED if not f.startswith("--") and f.startswith(name)), None):
        raise ValueError(f"{shown} is short for {meant}: write it in full, so that it can be counted")


def _windowed(shown: str, key: str, text: str) -> bool:
    """Whether sliding layers keep their window alone beside the connector that is named."""
    if key:
        return key != "kv_connector" or text in WINDOWED
    try:
        told = json.loads(text)
        name, more = told["kv_connector"], told.get("kv_connector_extra_config") or {}
        names = [c["kv_connector"] for c in more["connectors"]] if name == "MultiConnector" else [name]
        return not told.get("kv_connector_module_path") and WINDOWED.issuperset(names)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{shown}: not a JSON object that names its kv_connector") from None


def _value(shown: str, field: str, text: str) -> object:
    """A flag's value as the engine reads it: whole numbers take k and K, m and M, g and G."""
    if field == "cache_element":
        return 1 if text.startswith(("fp8", "int8")) else 2  # narrower kinds are counted as 2: never too little
    try:
        if field == "utilisation":
            return float(text)
        scale = SUFFIXES.get(text[-1:], 1)
        return int(float(text[:-1]) * scale) if scale > 1 else int(text)
    except ValueError:
        raise ValueError(f"{shown} {text}: not a number") from None
