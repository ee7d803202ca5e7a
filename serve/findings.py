"""What can be wrong with serving a checkpoint: one rule an id, and a Finding for each time one is broken.

The vocabulary of `serve preflight` and, for its own rules, of `deploy check`: id, severity, what, why, fix.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from tune.errors import UserError
from tune.weights.tensors import Fault, Kind

Severity = Literal["error", "warning"]


class Rule(NamedTuple):
    """An `error` stops the start; a `warning` is told and leaves the choice to the user."""

    id: str
    severity: Severity
    title: str


class Finding(BaseModel):
    """One broken rule: what was found, and the edit or command that mends it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    severity: Severity
    what: str
    why: str = ""
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.id} {self.what}" + "".join(
            f"\n  {label}: {text}" for label, text in (("why", self.why), ("fix", self.fix)) if text
        )


# S000: there is nothing to look at; of the checkpoint from S001, the options from S040, this machine from S050.
RULES = (
    Rule("S000", "error", "folder, recipe and options can be read"),
    Rule("S001", "error", "every file is the one that the manifest names"),
    Rule("S002", "error", "the prompt is the one that was trained on"),
    Rule("S003", "error", "the checkpoint's format can be served alone"),
    Rule("S004", "error", "canary.json can prove the engine's answers"),
    Rule("S010", "error", "config.json is a GPT-OSS's, as engines take it"),
    Rule("S011", "error", "config.json says how positions are rotated, by yarn"),
    Rule("S012", "error", "config.json says how these weights are packed"),
    Rule("S013", "error", "layers slide where the engine lets them"),
    Rule("S014", "error", "the vocabulary is harmony's, in two embeddings of its own"),
    Rule("S020", "error", "the weights' files are whole, and no others lie there"),
    Rule("S021", "error", "the tensors are those of config.json by name"),
    Rule("S022", "error", "each tensor has config.json's shape"),
    Rule("S023", "error", "each tensor has its format's dtype"),
    Rule("S030", "error", "the tokenizer is GPT-OSS's, control ids and all"),
    Rule("S031", "error", "generation_config.json has the ids that end an answer"),
    Rule("S040", "error", "the model holds so long a context"),
    Rule("S041", "error", "so many GPUs can share the model out"),
    Rule("S042", "error", "the profile is one for this GPU"),
    Rule("S043", "warning", "the profile changes something here"),
    Rule("S045", "error", "adapters have names of their own, and room"),
    Rule("S046", "error", "each adapter is one of this base that the engine applies"),
    Rule("S050", "error", "the engine is one that serve knows"),
    Rule("S051", "error", "the harmony library is the one with its vocabulary"),
    Rule("S052", "error", "host and port are this machine's, and free"),
    Rule("S053", "error", "the API key can be sent"),
    Rule("S054", "warning", "a port that others reach asks for a key"),
    Rule("S055", "error", "certificate and key can be used"),
    Rule("S056", "warning", "clients take the certificate, and will for a week"),
    Rule("S057", "warning", "the key of the certificate is not for everyone to read"),
    Rule("S060", "error", "the processor has the kernels for these weights"),
    Rule("S061", "warning", "the processor has the fast kernels"),
    Rule("S065", "error", "the engine takes adapters beside these weights here"),
    Rule("S066", "error", "several GPUs apply an adapter of experts as one does"),
    Rule("S070", "error", "weights and cache fit the memory"),
    Rule("S071", "error", "there are as many GPUs as the engine takes"),
    Rule("S072", "error", "a GPU answers"),
    Rule("S073", "error", "the GPU's memory is free"),
)
KINDS: dict[Kind, str] = {
    "config": "S010",
    "rope": "S011",
    "packing": "S012",
    "layers": "S013",
    "embeddings": "S014",
    "files": "S020",
    "names": "S021",
    "shapes": "S022",
    "dtypes": "S023",
    "tokenizer": "S030",
    "ends": "S031",
}


def finding(id: str, what: str, *, why: str = "", fix: str = "") -> Finding:
    """A Finding with its rule's severity. Raises KeyError for an id that no rule has."""
    severity = {rule.id: rule.severity for rule in RULES}[id]
    return Finding(id=id, severity=severity, what=what, why=why, fix=fix)


def of_fault(fault: Fault) -> Finding:
    """What is wrong with a model's files, by its kind."""
    return finding(KINDS[fault.kind], fault.what, why=fault.why, fix=fault.fix)


def of_error(id: str, error: UserError) -> Finding:
    """What a check raised."""
    return finding(id, error.what, why=error.why, fix=error.fix)


def require(findings: Sequence[Finding], what: str) -> None:
    """Raise one UserError that lists every error among the findings."""
    errors = [f for f in findings if f.severity == "error"]
    if len(errors) == 1:
        raise UserError(f"{errors[0].id} {errors[0].what}", why=errors[0].why, fix=errors[0].fix)
    if errors:
        lines = [f"{f.id} {f.what}{f' ({f.why})' if f.why else ''}: {f.fix}" for f in errors]
        raise UserError(what, why="\n       ".join(lines))
