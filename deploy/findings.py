"""What can be wrong with a deployment: one rule an id, and a Finding for each time one is broken, in serve's words."""

from collections.abc import Mapping

from serve.findings import Finding, Rule

RULES = (
    Rule("D000", "error", "the recipe can be read"),
    Rule("D001", "error", "the checkpoint is whole and unchanged"),
    Rule("D002", "error", "a passing report names this checkpoint"),
    Rule("D003", "error", "the checkpoint's format can be served alone"),
    Rule("D004", "error", "names and values are safe to render"),
    Rule("D005", "error", "the report judged the effort of a request that names none"),
    Rule("D006", "warning", "the report judged every effort that a request may name"),
    Rule("D007", "error", "the report was judged as the recipe asks for"),
    Rule("D008", "error", "checkpoint and options are what serve preflight takes"),
    Rule("D010", "error", "the target lends the GPU"),
    Rule("D011", "error", "weights and one full-length request fit the GPU"),
    Rule("D012", "warning", "the cache holds as many full-length requests as the target sends"),
    Rule("D013", "warning", "someone chose the length of context"),
    Rule("D014", "warning", "the recipe's keys are known to the target"),
    Rule("D020", "error", "the target lets a request take so long"),
    Rule("D021", "warning", "a plain answer ends before the target cuts it off"),
    Rule("D022", "warning", "a cold start ends before the target gives up"),
    Rule("D023", "warning", "the target can scale to zero"),
    Rule("D024", "warning", "requests under way can finish before the target ends a container"),
    Rule("D025", "error", "a replica is given the time to start"),
    Rule("D026", "warning", "it is given time to spare"),
    Rule("D030", "error", "no rendered file holds something that looks like a secret"),
    Rule("D031", "error", "the target can refer to a secret without showing its value"),
    Rule("D040", "error", "environment values keep the target's limits"),
    Rule("D041", "error", "the region hosts the machine"),
    Rule("D042", "error", "the region is one"),
    Rule("D043", "error", "the name is one that the target takes"),
    Rule("D044", "error", "what the recipe names lies where the endpoint does"),
    Rule("D045", "warning", "a push knows where weights go and as whom the endpoint runs"),
    Rule("D050", "warning", "the target can pull the image"),
    Rule("D051", "warning", "the engine's image is named by its digest"),
    Rule("D052", "error", "the engine's image is of the exact version that the launcher takes"),
    Rule("D053", "error", "an endpoint that a network reaches asks for a key"),
    Rule("D054", "error", "a host's secrets are named as its environment's variables"),
    Rule("D055", "warning", "the target runs as many replicas as the recipe asks for"),
    Rule("D056", "warning", "a passing report names this checkpoint, and nobody deploys it without"),
    Rule("D057", "error", "the report is fresh when it is pushed"),
    Rule("D058", "warning", "no other folder was pushed to the same endpoint"),
    Rule("D059", "warning", "what was pushed from the folder is what is rendered there"),
    Rule("D070", "error", "what is always on keeps within monthly_usd"),
    Rule("D071", "warning", "what may be on keeps within it, too"),
    Rule("D072", "warning", "the table of prices is not old"),
    Rule("D080", "error", "the region is one of Modal's"),
    Rule("D081", "error", "the key that callers are asked for is among the secrets"),
    Rule("D082", "error", "one gate asks every caller who he is, neither none nor two"),
    Rule("D083", "error", "Hugging Face lends the GPU in that region"),
    Rule("D084", "error", "the checkpoint lies on the Hub, at a commit"),
    Rule("D085", "error", "Hugging Face can pull the image"),
    Rule("D086", "error", "a pod asks its callers for a key"),
    Rule("D087", "error", "a queue keeps a job until its answer is there"),
    Rule("D088", "error", "the network volume of the weights is named, and where it is"),
    Rule("D089", "warning", "there are as many replicas as the recipe says"),
    Rule("D090", "warning", "a cluster's endpoint asks its callers for a key"),
    Rule("D091", "warning", "someone said by which label the nodes name their GPU"),
    Rule("D092", "warning", "who shares out the requests sees how busy each replica is"),
    Rule("D093", "warning", "the weights can be mounted on every node that a replica may run on"),
    Rule("D094", "warning", "what comes and goes is encrypted on its way"),
    Rule("D096", "error", "the platform knows the clouds"),
    Rule("D097", "error", "the platform takes the secrets' names"),
)


def finding(id: str, what: str, *, why: str = "", fix: str = "") -> Finding:
    """A Finding with its rule's severity. Raises KeyError for an id that no rule has."""
    severity = {rule.id: rule.severity for rule in RULES}[id]
    return Finding(id=id, severity=severity, what=what, why=why, fix=fix)


def inline(names: Mapping[str, str]) -> str:
    """Secrets by their names, as a recipe has them in one line."""
    return f"{{ {', '.join(f'{key} = {chr(34)}{name}{chr(34)}' for key, name in names.items())} }}" if names else "{}"
