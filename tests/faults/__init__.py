"""Breaks a whole house under load and counts what is left: ``python -m tests.faults --help``.

``servers`` are a private PostgreSQL and Redis, ``house`` the web server, workers and clock on
them, ``load`` the people, ``breaking`` what goes wrong, ``counting`` what must hold afterwards,
``poison`` ten thousand hopeless jobs before fresh ones.
"""
