"""Fuzzes the zip reader: ``python tests/fuzz/fuzz_zip.py -max_total_time=60``.

Needs ``pip install atheris``; every option is libFuzzer's.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["triage.containers"]):
    from tests.fuzz import targets

if __name__ == "__main__":
    atheris.Setup(sys.argv, targets.zip_archive)
    atheris.Fuzz()
