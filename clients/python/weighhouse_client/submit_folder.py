"""Submit a folder of models: one folder each, with weights, previews and an optional model.json."""

import argparse
import hashlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from weighhouse_client.client import Client, WeighhouseError

WEIGHTS = {".safetensors", ".ckpt", ".pt", ".pth", ".bin"}
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif"}


def main() -> int:
    """Submit every model of a folder; return 1 if one was refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder with a folder for each model")
    parser.add_argument("--url", required=True, help="the address of the house")
    parser.add_argument(
        "--key", default=os.environ.get("WEIGHHOUSE_KEY", ""), help="or WEIGHHOUSE_KEY"
    )
    parser.add_argument("--on-behalf-of", default="", help="your own id of the user")
    parser.add_argument("--dry-run", action="store_true", help="say what would be submitted")
    options = parser.parse_args()
    models = sorted(path for path in options.folder.iterdir() if path.is_dir())
    house = Client(options.url, key=options.key)
    tally: Counter[str] = Counter()
    bar = tqdm(models, unit="model", disable=None)
    for folder in bar:
        bar.set_description(folder.name)
        try:
            outcome = _submit(house, folder, options.on_behalf_of, dry_run=options.dry_run)
        except WeighhouseError as error:
            outcome = "refused"
            tqdm.write(f"{folder.name}: {error} ({error.code})", file=sys.stderr)
        tally[outcome] += 1
    print(", ".join(f"{number} {outcome}" for outcome, number in tally.items()) or "nothing there")
    return 1 if tally["refused"] else 0


def _submit(house: Client, folder: Path, on_behalf_of: str, *, dry_run: bool) -> str:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in WEIGHTS)
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not files or not pictures:
        return "without weights or previews"
    if dry_run:
        return "would be submitted"
    described = folder / "model.json"
    texts: dict[str, Any] = {"title": folder.name}
    if described.exists():
        texts |= json.loads(described.read_text())
    # The keys follow from what is sent: run again, this goes on where it stopped.
    made = house.create_model(
        **texts,
        on_behalf_of=on_behalf_of,
        idempotency_key=_key("model", folder, texts, on_behalf_of),
    )
    for path in files:
        house.add_file(made.code, path, idempotency_key=_key(made.code, path, path.stat().st_size))
    for path in pictures:
        house.add_preview(
            made.code, path, idempotency_key=_key(made.code, path, path.stat().st_size)
        )
    house.submit(made.code, idempotency_key=_key(made.code, "submit"))
    return "submitted"


def _key(*parts: Any) -> str:
    return hashlib.sha256(repr([str(part) for part in parts]).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
