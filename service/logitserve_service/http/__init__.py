"""The HTTP application: the inference endpoint, and FastAPI for documents and management."""
