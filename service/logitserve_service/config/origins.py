"""Parse the CORS origins of the setting `cors_origins`."""

import re

_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def parse_origins(text: str) -> tuple[str, ...]:
    """Split a list of origins, separated by spaces or commas; `*` means any origin."""
    origins = tuple(re.split(r"[\s,]+", text.strip())) if text.strip() else ()
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is not an origin; an origin is a scheme and a host, such as "
                "https://example.org, in lower case and without a path"
            )
    return origins
