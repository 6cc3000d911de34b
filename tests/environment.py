"""Loaded before the settings are: tests keep their data apart from a house that is running."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

DATA = tempfile.mkdtemp(prefix="weighhouse-test-")
Path(DATA, "static").mkdir()
os.environ["WEIGHHOUSE_DATA"] = DATA
atexit.register(shutil.rmtree, DATA, ignore_errors=True)
