"""All settings of the service; options, variables and the settings file derive from `Settings`."""

import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)

from logitserve.inference.card import ModelName
from logitserve.inference.images import DEFAULT_MAX_PIXELS, MOST_PIXELS
from logitserve.inference.naming import closest
from logitserve_service.config.keys import Keys, KeysError
from logitserve_service.config.origins import parse_origins
from logitserve_service.config.proxies import Proxies
from logitserve_service.config.version_policy import LATEST, VersionPolicy
from logitserve_service.errors import SettingsError, StartError

ENVIRONMENT_PREFIX: Final = "LOGITSERVE_"
PLATFORM_VARIABLES: Final = {
    "PORT": "port",
    "WEB_CONCURRENCY": "workers",
    "LOG_LEVEL": "log_level",
    "FORWARDED_ALLOW_IPS": "forwarded_allow_ips",
}
"""Variables of hosting platforms and uvicorn images; the setting's own variable takes
precedence."""
OTHER_VARIABLES: Final = {"settings", "url"}
"""`LOGITSERVE_…` variables that are not settings of the service, without the prefix."""
_SERVICE_LINK: Final = re.compile(
    r"(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)=.*"
    r"|(\w+_)?PORT=(tcp|udp|sctp)://.*"
)
"""Variables that Docker and Kubernetes set in all containers for a service named logitserve(-…)."""


LogLevel = Annotated[
    Literal["critical", "error", "warning", "info", "debug"],
    BeforeValidator(lambda value: {"warn": "warning"}.get(str(value).lower(), str(value).lower())),
]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(lambda value: str(value).lower())]
Port = Annotated[int, Field(ge=0, le=65535)]
RootPath = Annotated[
    str,
    Field(pattern=r"^[\w./~-]*$"),
    AfterValidator(lambda path: f"/{path.strip('/')}" if path.strip("/") else ""),
]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def environment_name(field: str) -> str:
    """Return the environment variable of a setting, e.g. `LOGITSERVE_MAX_BODY_BYTES`."""
    return ENVIRONMENT_PREFIX + field.upper()


def option_name(field: str) -> str | None:
    """Return the option of a setting, e.g. `--max-body-bytes`; secrets have none: `ps` shows it."""
    info = Settings.model_fields.get(field)
    if info is not None and info.annotation == SecretStr | None:
        return None
    return f"--{field.replace('_', '-')}"


def _checked_by(parse: Callable[[str], object]) -> AfterValidator:
    """Validate a text with a parser, and leave it unchanged."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


class Settings(BaseModel):
    """Settings of `logitserve serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        "127.0.0.1", description="address to listen on; 0.0.0.0 for all interfaces, :: for IPv6 too"
    )
    port: Port = Field(8000, description="port to listen on; 0 picks a free one")
    forwarded_allow_ips: Annotated[str, _checked_by(Proxies)] = Field(
        "127.0.0.1,::1",
        description="addresses and networks of proxies whose X-Forwarded-For and "
        "X-Forwarded-Proto are trusted; * for any; separate several with commas",
    )
    uds: Path | None = Field(
        None,
        description="Unix socket to listen on instead of host and port; every user with access "
        "to its folder can connect",
    )
    root_path: RootPath = Field(
        "",
        description="path prefix under which a proxy serves the routes, such as /digits; "
        "requests with and without it are accepted",
    )
    grpc_port: Port | None = Field(
        None,
        description="gRPC port (Open Inference Protocol); 0 picks a free one; off if unset",
    )
    workers: PositiveInt = Field(1, description="number of worker processes")
    worker_timeout_seconds: Seconds = Field(
        30, description="seconds without a heartbeat after which a worker is replaced"
    )
    models: Path = Field(
        Path("models"), description="model repository: <name>/<version>/model.onnx"
    )
    model_name: ModelName | None = Field(
        None,
        description="name of the only model, if the repository contains <version>/model.onnx, "
        "or model.onnx alone as version 1 (KServe's layout)",
    )
    watch_seconds: NonNegativeFloat = Field(
        1,
        description="interval in seconds at which the repository is checked for changes; 0 checks "
        "on load requests only",
    )
    version_policy: Annotated[str, _checked_by(VersionPolicy.parse)] = Field(
        LATEST,
        description="versions to load: 'latest' or 'all', and pins such as digits=2 or "
        "digits=1,3; separate several with spaces",
    )
    default_model: str | None = Field(
        None,
        description="model of POST /predict; if unset, 'digits' if present, else the only model",
    )
    max_model_bytes: PositiveInt | None = Field(
        None,
        description="maximum size of a model file; if unset, 2 GiB, or less if available memory "
        "cannot hold the file twice in every worker",
    )
    threads: PositiveInt | None = Field(
        None, description="threads per model run; if unset, CPUs divided by workers"
    )
    api_key: SecretStr | None = Field(
        None,
        description="API key required by all requests except probes; separate several with commas",
    )
    api_key_file: Path | None = Field(
        None, description="file of API keys, one per line; re-read when it changes"
    )
    admin_key: SecretStr | None = Field(
        None,
        description="key required to load and unload models; valid for all other requests too; "
        "separate several with commas",
    )
    admin_key_file: Path | None = Field(
        None, description="file of admin keys, one per line; re-read when it changes"
    )
    receipts: bool = Field(
        default=False,
        description="add a signed id to each prediction; POST /feedback takes the true label "
        "with this id",
    )
    receipts_key: SecretStr | None = Field(
        None,
        description="key that signs prediction ids, the same for all replicas; if unset, a new "
        "one at each start; separate several with commas: the first signs, all are "
        "valid",
    )
    receipts_key_file: Path | None = Field(None, description="file of receipt keys, one per line")
    store: Path | None = Field(
        None,
        description="SQLite file that stores answers and labels, for quality and export; "
        "implies receipts; not on a network file system",
    )
    keep_pictures: Literal["none", "unsure", "sample", "all"] = Field(
        "none",
        description="pictures stored with their answers, as the network gets them; sample "
        "stores 1 in 100, unsure also those that are not known or whose probability "
        "is below 0.9",
    )
    store_days: Annotated[float, Field(gt=0, le=3650)] = Field(
        30, description="retention of answers, pictures and labels in days"
    )
    store_max_bytes: PositiveInt = Field(
        2**30,
        description="maximum size of the store in bytes; the oldest answers are deleted first",
    )
    cors_origins: Annotated[str, _checked_by(parse_origins)] = Field(
        "",
        description="origins allowed to send cross-origin requests, such as https://example.org; "
        "* allows any; separate several with spaces",
    )
    max_body_bytes: PositiveInt = Field(32 * 2**20, description="maximum size of a request body")
    max_buffered_bytes: PositiveInt | None = Field(
        None,
        description="maximum total size of the request bodies that a worker holds at once; one "
        "body is always accepted; if unset, 96 MiB, or less if that exceeds a "
        "quarter of the worker's share of available memory",
    )
    max_pictures: PositiveInt = Field(1024, description="maximum number of images in a request")
    max_json_values: PositiveInt = Field(
        2**20, description="maximum number of values, lists and objects in request JSON"
    )
    max_queue: PositiveInt = Field(
        2048, description="maximum number of images queued for one model in one worker"
    )
    max_pixels: PositiveInt = Field(
        DEFAULT_MAX_PIXELS, le=MOST_PIXELS, description="maximum width × height of an image"
    )
    max_decoded_bytes: PositiveInt | None = Field(
        None,
        description="maximum memory of a worker for images that are decoded at once; if unset, "
        "a third of the worker's share of available memory",
    )
    request_timeout_ms: PositiveInt = Field(
        60_000,
        description="deadline of a request in milliseconds, from its head to its response; the "
        "header X-Request-Timeout-Ms lowers it",
    )
    max_connections: PositiveInt = Field(
        1000,
        description="maximum number of connections to one worker; above it, only probes and "
        "metrics are served",
    )
    header_timeout_seconds: Seconds = Field(
        30, description="timeout for receiving a request's head, and for a TLS handshake"
    )
    body_timeout_seconds: Seconds = Field(
        30, description="timeout for receiving a request body, and for sending the response"
    )
    keep_alive_seconds: Seconds = Field(
        75, description="idle keep-alive timeout in seconds; set it above the proxy's"
    )
    drain_seconds: Seconds = Field(
        20, description="time limit of a shutdown, in seconds from the signal to the exit"
    )
    linger_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1,
        description="seconds between failing readiness and closing the listener at shutdown; part "
        "of drain_seconds",
    )
    watch: bool = Field(
        default=False,
        description="detect drift: compare images and predictions with the card's reference",
    )
    drift_false_alarm_every: PositiveInt = Field(
        1_000_000, description="mean number of images of a model per false drift alarm"
    )
    drift_floor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.02, description="minimum PSI of a drift alarm"
    )
    tls_certificate: Path | None = Field(
        None, description="file of the certificate chain (PEM); enables HTTPS"
    )
    tls_key: Path | None = Field(None, description="file of the certificate's private key (PEM)")
    access_log: bool = Field(
        default=False,
        description="log every request on standard output; probes only at log level debug",
    )
    log_format: LogFormat = Field(
        "text", description="format of log lines: text, or json with one object per line"
    )
    log_level: LogLevel = Field("info", description="lowest level that is logged")

    @model_validator(mode="after")
    def _read_keys(self) -> Self:
        self.keys("api_key")
        self.keys("admin_key")
        self.keys("receipts_key")
        if self.keep_pictures != "none" and self.store is None:
            raise SettingsError("keep_pictures", "pictures are kept in the store; set store too")
        return self

    def keys(self, field: Literal["api_key", "admin_key", "receipts_key"]) -> Keys | None:
        """Return the keys of a setting or its file; None if neither is set."""
        text: SecretStr | None = getattr(self, field)
        file: Path | None = getattr(self, f"{field}_file")
        if text is not None and file is not None:
            raise SettingsError(
                f"{field}_file", f"{field} is set too; set only one of them", str(file)
            )
        try:
            if text is not None:
                return Keys.of_text(text.get_secret_value())
            return None if file is None else Keys.of_file(file)
        except KeysError as error:
            raise SettingsError(field if file is None else f"{field}_file", str(error)) from error

    @classmethod
    def read(cls, options: Mapping[str, str], file: Path | None = None) -> Self:
        """Read all sources; options, text by field, override the environment, and that the file."""
        values = {} if file is None else _read_file(file)
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in PLATFORM_VARIABLES or name.upper().startswith(ENVIRONMENT_PREFIX)
        }
        values |= _by_field(environment, "the environment", OTHER_VARIABLES)
        try:
            return cls.model_validate({**values, **options})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = str(first["loc"][0])
            value = None if option_name(field) is None else first["input"]
            raise SettingsError(field, first["msg"], value) from error


def _read_file(file: Path) -> dict[str, str]:
    try:
        lines = dotenv_values(file)
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"the settings file {file} cannot be read: {error}") from error
    values = {name: value for name, value in lines.items() if value is not None}
    for name in lines.keys() - values:
        raise StartError(f"{name} in {file} has no value; write {name}=value")
    return _by_field(values, str(file))


def _by_field(
    variables: Mapping[str, str], source: str, others: Collection[str] = ()
) -> dict[str, str]:
    """Return field name → value of a source; an empty value means unset, except for a key."""
    found = {
        field: variables[name] for name, field in PLATFORM_VARIABLES.items() if variables.get(name)
    }
    for name, value in variables.items():
        field = name.upper().removeprefix(ENVIRONMENT_PREFIX)
        if name in PLATFORM_VARIABLES or _SERVICE_LINK.fullmatch(f"{field}={value}"):
            continue
        field = field.lower()
        if field in Settings.model_fields and name.upper() == environment_name(field):
            if value or "key" in field:
                found[field] = value
        elif field not in others:
            match = closest(field, Settings.model_fields)
            hint = "`logitserve serve --help` lists all"
            if match is not None:
                hint = f"did you mean {environment_name(match)}?"
            raise StartError(f"unknown setting {name} in {source}; {hint}")
    return found
