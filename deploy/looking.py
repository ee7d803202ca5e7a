"""What was pushed, looked at by its record: how clients reach it, and the flows of looks and dry runs."""

from deploy import kept, targets, undoing
from deploy import live as record
from deploy.folder import Rendered
from deploy.live import Live
from deploy.pushing import again, known
from deploy.spec import Deployment
from deploy.steps import Flow
from evalsuite.asking.client_info import ClientInfo
from tune.errors import UserError


def client(at: Rendered) -> ClientInfo:
    """How clients reach it. Raises UserError when it was not pushed, or when the record does not say."""
    live, there = known(at), standing(at).deployment
    try:
        return targets.operator(at.deployment.target).client(there, live.stands)
    except (ValueError, LookupError, TypeError, AttributeError):
        what = f"{record.place(at.folder)} does not say how {at.deployment.name} is reached"
        raise UserError(what, why="what it keeps of a step is not what a push keeps", fix=again("push", at)) from None


def standing(at: Rendered) -> Rendered:
    """What answers by the record: what the last finished release was rendered as, which need not be what the folder
    holds now. Raises UserError when no push was finished."""
    live = known(at)
    last = live.stands.last
    if last is None or not last.finished:
        what = f"{at.deployment.name} was not pushed from here{' to the end' if live.releases else ''}"
        raise UserError(what, why=f"{record.place(at.folder)} has no finished release", fix=again("push", at))
    return at if last.folder_digest == at.digest else kept.of(at.folder, last)


def subject(at: Rendered, live: Live) -> Deployment:
    """What a look is about: the newest release of that record, which may be in another place than the folder says now.
    What the folder holds, where nothing was pushed or what was is not kept."""
    if live.last is None or live.last.folder_digest == at.digest:
        return at.deployment
    try:
        return kept.of(at.folder, live.last).deployment
    except UserError:
        return at.deployment


def flow(command: str, at: Rendered, *, no_gate: bool = False) -> Flow:
    """The flow of a command by its name, for a look or a dry run."""
    operator, live = targets.operator(at.deployment.target), known(at)
    if command == "push":
        return operator.push(at.deployment, at.folder, live)
    if command == "rollback":
        seen, old = undoing.back(at, live, no_gate=no_gate)
        return operator.rollback(old.deployment, old.folder, seen)
    if command == "destroy":
        return undoing.removal(at, live)
    if command == "status":  # of what answers, as the client has it; the log is of what was tried last
        live = live.stands
    made: Flow = getattr(operator, command)(subject(at, live), live)
    return made
