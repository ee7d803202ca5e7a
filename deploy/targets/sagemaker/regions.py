"""Which region of AWS hosts which machine, and what its addresses and ARNs look like: regions.toml in, answers out.

Dated facts of ours; the tests hold them against cfn-lint's and botocore's own. Asks no network.
"""

import tomllib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """regions.toml: region: families ("g5") or machines ("p5.4xlarge") of hardware.toml, without their "ml."."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dated: str
    region: dict[str, tuple[str, ...]]

    def lends(self, region: str, machine: str) -> bool:
        """Whether the region hosts such a machine ("ml.g5.2xlarge")."""
        name = machine.removeprefix("ml.")
        return not {name, name.partition(".")[0]}.isdisjoint(self.region.get(region, ()))

    def lending(self, machine: str, partition: str) -> list[str]:
        """The regions of a partition that host such a machine."""
        return [r for r in self.region if self.lends(r, machine) and partition_of(r) == partition]


@cache
def table() -> Table:
    """The table that comes with the package."""
    text = files("deploy.targets.sagemaker").joinpath("regions.toml").read_text(encoding="utf-8")
    return Table.model_validate(tomllib.loads(text))


def partition_of(region: str) -> str:
    """The part of AWS that has its own accounts: the second field of each ARN there."""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


def suffix(region: str) -> str:
    """What host names of the region's services end in."""
    return "amazonaws.com.cn" if partition_of(region) == "aws-cn" else "amazonaws.com"


def runtime_url(region: str, name: str) -> str:
    """The endpoint's OpenAI route, ending in /v1."""
    return f"https://runtime.sagemaker.{region}.{suffix(region)}/endpoints/{name}/openai/v1"
