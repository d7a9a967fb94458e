"""Alembic migrations of the registry, installed as ``expertbank_migrations``.

A revision never changes once released and imports nothing of expertbank: it says in full what
the schema was. Triggers are not in the revisions; ``env.py`` takes them off before and puts
the current ones on after, so no revision can lose them.
"""
