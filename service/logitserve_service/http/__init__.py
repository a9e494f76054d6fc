"""The application: one inference endpoint; FastAPI for documents and management."""
