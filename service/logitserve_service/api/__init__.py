"""The request forms: one codec a form, and their schemas."""
