"""Facts in, candidate questions out: one function a kind, by family: signatures, structure, behaviour, code.

To add a kind: write a function like theirs, add it to KINDS, and give checks.py or running.py what its check calls.
"""

from evalsuite.pydocs.kinds import behaviour, code, signatures, structure
from evalsuite.pydocs.kinds.candidate import Candidate, Kind

KINDS: dict[str, Kind] = {
    "default": signatures.default,
    "keyword-only": signatures.keyword_only,
    "position": signatures.position,
    "exporter": structure.exporter,
    "exception-base": structure.exception_base,
    "binding": structure.binding,
    "constant": structure.constant,
    "subclass": structure.subclass,
    "session": behaviour.doctest,
    "required": signatures.required,
    "optional": signatures.optional,
    "by-name": signatures.by_name,
    "takes": signatures.takes,
    "which-keyword-only": signatures.which_keyword_only,
    "names": structure.names,
    "base": structure.base,
    "method": structure.method,
    "owner": structure.owner,
    "result": behaviour.result,
    "state": behaviour.state,
    "returned": behaviour.returned,
    "raises": behaviour.raises,
    "fits": code.fits,
    "blank": code.blank,
    "which-result": code.which_result,
    "which-raises": code.which_raises,
    "catches": code.catches,
    # Twins stand behind what they are twins of, so that they are asked after it.
    "mutated": behaviour.doctest_twins,
    "mutated-result": behaviour.result_twins,
    "mutated-state": behaviour.state_twins,
}

__all__ = ["KINDS", "Candidate", "Kind"]
