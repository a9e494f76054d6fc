"""As many requests as a few users can send: `make loadtest`."""

from locust import constant

from tests.load.users import Caller


class Eager(Caller):
    """Asks again as soon as it has its answer."""

    wait_time = constant(0)
