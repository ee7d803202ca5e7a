"""How long a replica takes from its container's start until it answers: sizes in, seconds out. An estimate.

What an engine needs was measured, how fast a platform's storage is was read: hardware.toml's [reads] says where. An
image that must be pulled first is not in it: what that takes, the platform's own clock counts, not ours.
"""

from pydantic import BaseModel, ConfigDict

from deploy.sizing import Load, hardware
from deploy.spec import Target
from serve.memory import GRAPHS_LAYERS

# `serve run`, 24 layers of the 20b's shape in MXFP4, one H200 with 16 cores, caches empty, vLLM 0.32 (2026-11-28):
# ready after 226 s with 83 graphs and 156 s with 11, of which reading 8; 158 and 128 s on another day. Imports, two
# processes, proof and warm-up took some 90 s, torch.compile and profiling 40 s, a graph 0.8 s in two passes.
APART, COMPILE, GRAPH = 90.0, 40.0, 0.8
GOOD_TO = 2.0  # an estimate may be out by this factor: between the two days it was by 1.4


class Startup(BaseModel):
    """Seconds: `reads` of the weights at the target's speed, and `engine` for everything else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reads: int
    engine: int

    @property
    def seconds(self) -> int:
        return self.reads + self.engine

    @property
    def words(self) -> str:
        """One sentence for people."""
        return f"about {self.seconds} s until it answers ({self.reads} to read the weights, {self.engine} the engine)"


def estimate(target: Target, load: Load) -> Startup:
    """With empty caches, told what `load` says. Weights are read once, whatever the GPUs that share them."""
    tuning = load.options.tuning
    deeper = max(1.0, load.shape.num_hidden_layers / GRAPHS_LAYERS)
    graphs = 0 if tuning.eager else tuning.graphs
    engine = APART + (0.0 if tuning.eager else COMPILE * deeper) + GRAPH * graphs * deeper
    size = sum(tensor.bytes for tensor in load.tensors.values())
    return Startup(reads=round(size / 1e9 / hardware().reads[target].gb_second), engine=round(engine))
