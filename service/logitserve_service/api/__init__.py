"""The request forms: one codec per form, and their schemas."""
