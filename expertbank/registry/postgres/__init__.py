"""A registry in a PostgreSQL database, for banks that several machines share.

Needs psycopg, which ``pip install 'expertbank[postgres]'`` brings; nothing else imports it.
"""
