"""Every setting of the service, in one place: command line, environment and file derive from it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    NonNegativeFloat,
    PositiveInt,
    ValidationError,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from inference.codec import DEFAULT_MAX_PIXELS, MOST_PIXELS
from service.errors import SettingsError
from service.version_policy import LATEST, VersionPolicy

ENVIRONMENT_PREFIX = "LOGITSERVE_"

Port = Annotated[int, Field(ge=0, le=65535)]


def environment_name(field: str) -> str:
    """The environment variable of a setting, e.g. `LOGITSERVE_MAX_BODY_BYTES`."""
    return ENVIRONMENT_PREFIX + field.upper()


def _also(field: str, platform_variable: str) -> AliasChoices:
    """The setting's own variable, and behind it the one that hosting platforms set."""
    return AliasChoices(field, environment_name(field), platform_variable)


def _checked_policy(text: str) -> str:
    VersionPolicy.parse(text)
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
    max_body_bytes: PositiveInt = Field(
        32 * 2**20, description="bytes that the body of one request may have"
    )
    max_pictures: PositiveInt = Field(1024, description="pictures that one request may carry")
    max_queue: PositiveInt = Field(
        2048, description="pictures that may wait for a model in one worker"
    )
    max_pixels: PositiveInt = Field(
        DEFAULT_MAX_PIXELS,
        le=MOST_PIXELS,
        description="width × height that one picture may have",
    )
    access_log: bool = Field(default=False, description="whether each request is logged")
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field(
        "info",
        description="least severe messages that are logged",
        validation_alias=_also("log_level", "LOG_LEVEL"),
    )

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
            raise SettingsError(str(first["loc"][0]), first["msg"], first["input"]) from error
