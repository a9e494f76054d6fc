"""Every setting of the service, in one place: command line, environment and file derive from it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    NonNegativeFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from logitserve.inference.card import ModelName
from logitserve.inference.decoding import DEFAULT_MAX_PIXELS, MOST_PIXELS
from logitserve_service.config.keys import Keys, KeysError
from logitserve_service.config.version_policy import LATEST, VersionPolicy
from logitserve_service.errors import SettingsError
from logitserve_service.http.cors import parse_origins

ENVIRONMENT_PREFIX = "LOGITSERVE_"

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def environment_name(field: str) -> str:
    """The environment variable of a setting, e.g. `LOGITSERVE_MAX_BODY_BYTES`."""
    return ENVIRONMENT_PREFIX + field.upper()


def option_name(field: str) -> str | None:
    """The option of a setting, e.g. `--max-body-bytes`; a secret has none: `ps` would show it."""
    if (
        field in Settings.model_fields
        and Settings.model_fields[field].annotation == SecretStr | None
    ):
        return None
    return f"--{field.replace('_', '-')}"


def _also(field: str, platform_variable: str) -> AliasChoices:
    """The setting's own variable, and behind it the one that hosting platforms set."""
    return AliasChoices(field, environment_name(field), platform_variable)


def _checked_policy(text: str) -> str:
    VersionPolicy.parse(text)
    return text


def _checked_origins(text: str) -> str:
    parse_origins(text)
    return text


class Settings(BaseSettings):
    """What `logitserve serve` can be told: options beat the environment, which beats the file."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True, populate_by_name=True
    )

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: Port = Field(
        8000,
        description="port to listen on; 0 takes a free one",
        validation_alias=_also("port", "PORT"),
    )
    grpc_port: Port | None = Field(
        None,
        description="port of the Open Inference Protocol over gRPC, which every worker shares; "
        "0 takes a free one, without it there is no gRPC",
    )
    workers: PositiveInt = Field(
        1,
        description="processes that share the port",
        validation_alias=_also("workers", "WEB_CONCURRENCY"),
    )
    models: Path = Field(Path("models"), description="folder of models, <name>/<version>/")
    model_name: ModelName | None = Field(
        None,
        description="name of the one model whose versions the folder holds, <version>/model.onnx, "
        "or model.onnx alone as version 1: what KServe mounts",
    )
    watch_seconds: NonNegativeFloat = Field(
        1,
        description="seconds between two looks at the folder of models; 0 looks only when a load "
        "is ordered",
    )
    version_policy: Annotated[str, AfterValidator(_checked_policy)] = Field(
        LATEST,
        description="versions that are loaded: 'latest' or 'all', and pins such as digits=2 or "
        "digits=1,3; several are separated by spaces",
    )
    default_model: str | None = Field(
        None,
        description="model that POST /predict asks; else 'digits' if present, else the only one",
    )
    threads: PositiveInt | None = Field(
        None, description="threads of one model run; without it the available CPUs over the workers"
    )
    api_key: SecretStr | None = Field(
        None,
        description="key that requests must bring, but those to probes; several, of which each "
        "will do, are separated by commas",
    )
    api_key_file: Path | None = Field(
        None, description="file of such keys, one a line; it is read again when it changes"
    )
    admin_key: SecretStr | None = Field(
        None,
        description="key that requests must bring which load or unload models; will do for any "
        "other request too; several as above",
    )
    admin_key_file: Path | None = Field(
        None, description="file of such keys, one a line; it is read again when it changes"
    )
    cors_origins: Annotated[str, AfterValidator(_checked_origins)] = Field(
        "",
        description="origins whose pages may ask, such as https://example.org, separated by "
        "spaces; * stands for any, and without them no other site's page may",
    )
    max_body_bytes: PositiveInt = Field(
        32 * 2**20, description="bytes that the body of one request may have"
    )
    max_buffered_bytes: PositiveInt = Field(
        128 * 2**20,
        description="bytes that the bodies of all requests of one worker may have at one time; one "
        "body is always let in",
    )
    max_pictures: PositiveInt = Field(1024, description="pictures that one request may carry")
    max_json_depth: Annotated[int, Field(ge=8, le=500)] = Field(
        32, description="lists and objects in one another that the JSON of a request may have"
    )
    max_json_values: PositiveInt = Field(
        2**20, description="values, lists and objects that the JSON of a request may have"
    )
    max_queue: PositiveInt = Field(
        2048, description="pictures that may wait for a model in one worker"
    )
    max_pixels: PositiveInt = Field(
        DEFAULT_MAX_PIXELS,
        le=MOST_PIXELS,
        description="width × height that one picture may have",
    )
    request_timeout_ms: PositiveInt = Field(
        60_000,
        description="milliseconds from the head of a request to its answer; X-Request-Timeout-Ms "
        "of a request lowers them",
    )
    max_connections: PositiveInt = Field(
        1000,
        description="connections that one worker may have; beyond them only probes are answered",
    )
    header_timeout_seconds: Seconds = Field(
        30, description="seconds that the head of a request may take to arrive, or a TLS handshake"
    )
    body_timeout_seconds: Seconds = Field(
        30, description="seconds that the body of a request, or reading the answer to it, may take"
    )
    keep_alive_seconds: Seconds = Field(
        75, description="seconds that a connection may be idle; longer than the proxy before it"
    )
    drain_seconds: Seconds = Field(
        20, description="seconds within which the service ends when told to stop"
    )
    linger_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1,
        description="of these, seconds that it stays open, though not ready, so that load "
        "balancers see it",
    )
    tls_certificate: Path | None = Field(
        None, description="file of the certificate and its chain (PEM); with it, HTTPS is served"
    )
    tls_key: Path | None = Field(None, description="file of the certificate's private key (PEM)")
    access_log: bool = Field(
        default=False,
        description="whether each request is logged, on standard output; probes at level debug",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="text for people, or json: an object a line"
    )
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field(
        "info",
        description="least severe messages that are logged",
        validation_alias=_also("log_level", "LOG_LEVEL"),
    )

    @model_validator(mode="after")
    def _read_keys(self) -> Self:
        self.keys("api_key")
        self.keys("admin_key")
        return self

    def keys(self, field: Literal["api_key", "admin_key"]) -> Keys | None:
        """The keys of a kind, from the setting or its file; none where neither is set.

        Raises:
            SettingsError: both are set, or what is set does not hold keys.
        """
        text: SecretStr | None = getattr(self, field)
        file: Path | None = getattr(self, f"{field}_file")
        if text is not None and file is not None:
            raise SettingsError(f"{field}_file", f"{field} is set too; keep one of them", str(file))
        try:
            if text is not None:
                return Keys.of_text(text.get_secret_value())
            return None if file is None else Keys.of_file(file)
        except KeysError as error:
            raise SettingsError(field if file is None else f"{field}_file", str(error)) from error

    @classmethod
    def read(cls, options: dict[str, str], file: Path | None = None) -> Self:
        """Gather the settings.

        Args:
            options: field name → text, as given on the command line.
            file: lines of `LOGITSERVE_…=value`, the weakest source.

        Raises:
            SettingsError: a value does not fit; it names the option and the variable.
        """
        try:
            return cls(_env_file=file, **options)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = str(first["loc"][0])
            value = None if option_name(field) is None else first["input"]
            raise SettingsError(field, first["msg"], value) from error
