"""Export, verify and list encoders."""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from triage.encoders import DEMO_FOLDER
from triage.encoders.base import EncoderError
from triage.encoders.onnx import available_providers
from triage.encoders.verify import verify

HERE = "encoders"  # the folder in the data folder where `list` looks
_SAYS = {True: "ok", False: "WRONG", None: "not checked"}


class Command(BaseCommand):
    """``manage.py encoder export|verify|list``."""

    help = (
        "Work with encoders, which turn pictures and texts into vectors that can be compared. "
        "`export` writes an open_clip model as a folder that runs without torch; it may download "
        "weights, and is the only command that ever does. `verify` checks a folder. `list` says "
        "what is installed. Use a folder with the setting ENCODER=onnx:DIR. docs/encoders.md says "
        "which models to choose."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the verbs and their options."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        export = verbs.add_parser(
            "export",
            help="write an open_clip model as an encoder folder (may download)",
            formatter_class=RawDescriptionHelpFormatter,
            description="Write an open_clip model as an encoder folder. Needs the torch extra.",
            epilog=(
                "examples:\n"
                "  manage.py encoder export --model ViT-B-32 --pretrained openai "
                "--out var/encoders/b32 --int8\n"
                "  manage.py encoder export --model ViT-B-32 --pretrained ./b32.safetensors "
                "--out b32\n\n"
                "The weights of a tag are downloaded if they are not on this machine yet. A "
                "checkpoint\nfile is read as tensors only: nothing in it is executed. It does not "
                "say which activation\nand preprocessing it needs; --like TAG does.\n"
            ),
        )
        export.add_argument("--model", required=True, help="an architecture of open_clip: ViT-B-32")
        export.add_argument(
            "--pretrained", required=True, metavar="TAG_OR_FILE", help="a tag of weights, or a file"
        )
        export.add_argument(
            "--out", required=True, type=Path, metavar="DIR", help="a new or empty folder"
        )
        export.add_argument(
            "--like",
            default="",
            metavar="TAG",
            help="for a file: the tag whose activation and preprocessing it needs",
        )
        export.add_argument(
            "--int8",
            action="store_true",
            help="quantise the image side: quicker on a CPU, a quarter of the size",
        )
        check = verbs.add_parser(
            "verify",
            help="check hashes and shapes of a folder, and compare it with its original",
            description=(
                "Check the hashes and shapes of an encoder folder. Where torch and the original "
                "weights are here, compare with them on 32 pictures, each alone and all in one "
                "batch with extreme ones: the smallest cosine must be 0.9999 (fp32) or 0.99 "
                "(int8). Exit status 1 if anything is wrong."
            ),
        )
        check.add_argument("folder", type=Path, metavar="DIR")
        listing = verbs.add_parser(
            "list",
            help="say what is installed",
            description=(
                "List the demo encoder and the encoder folders in a folder (by default "
                f"“{HERE}” in the data folder), and which of them is in use."
            ),
        )
        listing.add_argument("folder", type=Path, nargs="?", metavar="DIR")
        for verb in (export, check, listing):
            verb.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the verb."""
        try:
            {"export": self._export, "verify": self._verify, "list": self._list}[options["verb"]](
                options
            )
        except EncoderError as error:
            raise CommandError(str(error)) from error

    def _export(self, options: dict[str, Any]) -> None:
        try:
            from triage.encoders.export import export, fetch_weights
            from triage.encoders.open_clip import disagreement, load_model
        except ImportError as error:
            raise CommandError(
                f"Exporting needs torch and open_clip ({error}). Install the extra “torch”."
            ) from error
        architecture, pretrained = options["model"], options["pretrained"]
        self.stderr.write(f"Fetching the weights “{pretrained}” unless they are here already ...")
        fetch_weights(architecture, pretrained)
        self.stderr.write("Exporting; this takes a minute or a few ...")
        if not options["like"] and (doubt := disagreement(architecture, pretrained)):
            self.stderr.write(doubt)
        model = load_model(architecture, pretrained, like=options["like"])
        try:
            written = export(model, options["out"], int8=options["int8"])
        except OSError as error:
            raise CommandError(f"{options['out']} cannot be written: {error}.") from error
        if options["json"]:
            self.stdout.write(json.dumps({**asdict(written), "folder": str(written.folder)}))
            return
        patches = "with patches for heat-maps" if written.patches else "without patches"
        self.stdout.write(
            f"Wrote {written.name} ({written.precision}, {written.dim} dimensions, {patches}): "
            f"{written.files} files, {written.size / 1e6:.1f} MB, {written.settings}. "
            f"Check it with “manage.py encoder verify {written.folder}”, use it with "
            f"ENCODER=onnx:{written.folder.resolve()}"
        )

    def _verify(self, options: dict[str, Any]) -> None:
        checks = verify(options["folder"])
        wrong = sum(check.passed is False for check in checks)
        if options["json"]:
            found = {"ok": not wrong, "checks": [asdict(check) for check in checks]}
            self.stdout.write(json.dumps(found))
        else:
            for check in checks:
                self.stdout.write(f"{_SAYS[check.passed]:12} {check.name}: {check.detail}")
        passed = sum(check.passed is True for check in checks)
        tally = f"{passed} checks passed, {wrong} failed, {len(checks) - passed - wrong} not made."
        if wrong:
            raise CommandError(f"{options['folder']} is not to be used. {tally}")
        if not options["json"]:
            self.stdout.write(tally)

    def _list(self, options: dict[str, Any]) -> None:
        there = options["folder"] or settings.DATA_DIR / HERE
        if options["folder"] and not there.is_dir():
            raise CommandError(f"There is no folder {there}.")
        folders = sorted(path.parent for path in there.glob("*/config.json"))
        found = [_entry("demo", DEMO_FOLDER)]
        found += [_entry(f"onnx:{folder.resolve()}", folder) for folder in folders]
        if settings.ENCODER not in {entry["setting"] for entry in found}:
            kind, _, rest = settings.ENCODER.partition(":")
            found.append(_entry(settings.ENCODER, Path(rest) if kind == "onnx" else None))
        if options["json"]:
            said = {"encoders": found, "providers": available_providers()}
            self.stdout.write(json.dumps(said))
            return
        for entry in found:
            mark = "*" if entry["in_use"] else " "
            about = entry["problem"] or (
                f"{entry['name']}, {entry['precision']}, {entry['dim']} dimensions, "
                f"{entry['megabytes']:.1f} MB"
            )
            self.stdout.write(f"{mark} {entry['setting']}: {about}")
        self.stdout.write(
            f"{len(found)} encoders; * is in use. Their hashes were not checked. Folders run with "
            f"{' or else '.join(available_providers())}."
        )


def _entry(setting: str, folder: Path | None) -> dict[str, Any]:
    """Return what a folder says of itself; nothing of it is loaded."""
    entry: dict[str, Any] = {
        "setting": setting,
        "in_use": setting == settings.ENCODER,
        "name": "",
        "dim": 0,
        "precision": "",
        "megabytes": 0.0,
        "demo": False,
        "problem": "",
    }
    if folder is None:
        return {**entry, "problem": "run by torch; not a folder"}
    try:
        config = json.loads((folder / "config.json").read_bytes())
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return {
            **entry,
            "name": str(config["name"]),
            "dim": int(config["dim"]),
            "precision": str(config.get("precision", "fp32")),
            "megabytes": size / 1e6,
            "demo": bool(config.get("demo", False)),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {**entry, "problem": f"not usable ({type(error).__name__}: {error})"}
