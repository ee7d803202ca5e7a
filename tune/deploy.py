"""CONTRACT: [deploy] of recipe.toml: which GPUs, how many replicas, how long, at what cost, and a table a target."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tune.section import EnvName, Positive, SecretName, Section

AwsRegion = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]{2,12}){1,3}-\d$")]
Word = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]  # a name as DNS takes it
Image = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9.:/_-]{0,200}(@sha256:[0-9a-f]{64})?)?$")]


class Table(Section):
    """A target's own."""

    secrets: dict[EnvName, SecretName] = {}  # in the place of [deploy] secrets, even where it is empty


class Compose(Table):
    """A GPU host of one's own, with Docker."""

    port: int = Field(default=8000, ge=1, le=65535)  # on the host
    bind: Literal["127.0.0.1", "0.0.0.0"] = "127.0.0.1"  # noqa: S104  # who may reach it: this host, or everyone


class Modal(Table):
    # No memory snapshots: they want the engine's developer routes open and an engine put to sleep and woken, which the
    # supervisor would take for one that hangs; and a proof of weights from before a snapshot says nothing after it.

    auth: Literal["proxy", "key"] = "proxy"  # Modal's own token pair, or VLLM_API_KEY from [deploy] secrets
    region: str = Field(default="", pattern=r"^[a-z0-9-]{0,32}$")  # of Modal's guide; empty: wherever there is room


class Runpod(Table):
    type: Literal["auto", "load-balancer", "queue", "pod"] = (
        "auto"  # or pod; auto: a queue where min_replicas = 0, else load-balancer
    )
    weights: Literal["image", "volume"] = "image"  # volume: a network volume, filled once
    volume: str = Field(default="", pattern=r"^[a-z0-9]{0,32}$")  # its id
    datacenter: str = Field(default="", pattern=r"^[A-Z0-9-]{0,16}$")  # that of the volume
    credential: str = Field(default="", pattern=r"^[a-z0-9]{0,32}$")  # RunPod's id of a private registry's credential
    flashboot: bool = True  # serverless: a worker that stopped is woken from what it held, where RunPod can

    def chosen(self, min_replicas: int) -> Literal["load-balancer", "queue", "pod"]:
        """The type that "auto" means: a load balancer gives up on a cold start, a queue waits for it."""
        if self.type != "auto":
            return self.type
        return "queue" if min_replicas == 0 else "load-balancer"


class Sagemaker(Table):
    region: AwsRegion = "us-west-2"
    bucket: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")  # in S3, yours: weights go there
    # Yours too: as whom the endpoint runs. It may read the bucket, pull from ECR and write logs.
    role_arn: str = Field(default="", pattern=r"^(arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]{1,512})?$")
    # Whom the alarms tell, in the endpoint's region; empty: nobody.
    alarm_topic: str = Field(default="", pattern=r"^(arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256})?$")


class Huggingface(Table):
    repository: str = Field(
        default="", pattern=r"^([\w.-]{1,96}/[\w.-]{1,96})?$"
    )  # the checkpoint, as tune push left it
    revision: str = Field(default="", pattern=r"^([0-9a-f]{40})?$")
    vendor: Literal["", "aws", "gcp", "azure"] = ""  # empty: the first that lends the GPU
    region: str = Field(default="", pattern=r"^[a-z0-9-]{0,32}$")  # empty: the vendor's first
    namespace: str = Field(default="", pattern=r"^[\w.-]{0,96}$")  # who owns and pays for it; empty: the repository's
    private: bool = True  # asks every caller for a Hugging Face token


class Kubernetes(Table):
    kind: Literal["plain", "kserve", "production-stack"] = (
        "plain"  # a fixed number of replicas; or kserve, or production-stack
    )
    namespace: Word = "default"
    weights: Literal["claim", "image"] = "claim"  # claim: a PersistentVolumeClaim, filled once
    claim: Word = "models"
    # the name of a Secret with a private registry's account
    pull_secret: str = Field(default="", pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$")
    # what the nodes' label nvidia.com/gpu.product says; empty: what it is known to say of [deploy] gpu
    product: str = Field(default="", pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")
    # machines that share one model, with LeaderWorkerSet; [serve] tensor_parallel counts the GPUs of all of them
    hosts: int = Field(default=1, ge=1, le=64)
    spare: bool = False  # GPUs are free for a new pod beside the old one: no pause when a release is replaced

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.hosts > 1 and self.kind != "plain":
            raise ValueError(
                f'hosts = {self.hosts} goes with kind = "plain": {self.kind} shares no model among machines'
            )
        if self.hosts > 1 and self.spare:
            raise ValueError(f"hosts = {self.hosts} and spare = true: of a LeaderWorkerSet the old group goes first")
        return self


class Skypilot(Table):
    clouds: list[Word] = []  # any_of; empty: whichever is cheapest
    serve: bool = True  # a service with replicas; false: one machine
    weights: Literal["copy", "bucket", "image"] = "copy"  # copied from here, from a bucket of yours, or in the image
    bucket: str = Field(default="", pattern=r"^((s3|gs|r2|nebius)://[a-z0-9][a-z0-9._/-]{2,200})?$")  # the checkpoint
    answer_seconds: Positive = 10  # what a request takes on average: concurrency over it are requests a second
    tls_key: str = Field(default="", pattern=r"^([A-Za-z0-9~./][A-Za-z0-9_~./-]{0,200})?$")  # files of this machine
    tls_cert: str = Field(default="", pattern=r"^([A-Za-z0-9~./][A-Za-z0-9_~./-]{0,200})?$")

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if bool(self.tls_key) != bool(self.tls_cert):
            raise ValueError("tls_key and tls_cert go together")
        if (self.weights == "bucket") != bool(self.bucket):
            raise ValueError('weights = "bucket" and bucket = "s3://..." go together')
        return self


class Deploy(Section):
    gpu: str = Field(default="H100", pattern=r"^[A-Za-z0-9-]{1,32}$")  # a name in deploy/hardware.toml
    region: AwsRegion = "us-west-2"  # SageMaker, where [deploy.sagemaker] names none
    registry: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9.:/_-]{0,200})?$")  # where you push images
    engine: Image = ""  # vLLM's image, with its digest; empty: the one that this version knows, by its tag
    min_replicas: int = Field(default=0, ge=0)
    max_replicas: Positive = 1  # not set: min_replicas, if that is more
    concurrency: Positive = 16  # requests in flight a replica, before another is started
    idle_seconds: int = Field(default=300, ge=2, le=3600)  # before an idle replica stops
    startup_seconds: int = Field(default=1800, ge=60, le=3600)  # to load weights and answer
    request_seconds: Positive = 300  # the longest answer that is waited for
    monthly_usd: float = Field(default=0.0, ge=0)  # what it may cost at most; 0: no limit
    receipt_days: Positive = 30  # how old a PASS may be when it is pushed
    # environment variable: the name of a secret kept at the target; for targets that have no secrets of their own
    secrets: dict[EnvName, SecretName] = {}
    compose: Compose = Compose()
    modal: Modal = Modal()
    runpod: Runpod = Runpod()
    sagemaker: Sagemaker = Sagemaker()
    huggingface: Huggingface = Huggingface()
    kubernetes: Kubernetes = Kubernetes()
    skypilot: Skypilot = Skypilot()

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, given: Any) -> Any:
        if isinstance(given, dict) and "max_replicas" not in given and isinstance(given.get("min_replicas"), int):
            return {**given, "max_replicas": max(1, given["min_replicas"])}
        return given

    @model_validator(mode="after")
    def _replicas(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas = {self.min_replicas} is over max_replicas = {self.max_replicas}")
        return self

    def named(self, target: str) -> dict[str, str]:
        """The secrets of a target: its own table's where that says anything of them, else those of all."""
        own: Table = getattr(self, target)
        return own.secrets if "secrets" in own.model_fields_set else self.secrets
