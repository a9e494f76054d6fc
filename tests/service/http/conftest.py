from tests.service.server.conftest import of_module, served

__all__ = ["of_module", "served"]
