"""Check policy files, put them in force, write them out again and compare them."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from moderation.errors import Refusal
from moderation.models import Policy
from moderation.policy import policy_digest, policy_import, policy_read
from moderation.policy_export import policy_changes, policy_content, policy_text
from moderation.policy_file import PolicyFile


class Command(BaseCommand):
    """``manage.py policy check|import|export|diff``."""

    help = (
        "Work with policies. `check FILE` says what is wrong in a policy file, line by line. "
        "`import FILE` stores it as a new, immutable version and puts it in force; --dry-run only "
        "says what would happen. `export [NAME[@VERSION]]` writes a stored version as a file that "
        "imports to the same digest. `diff OLD NEW` says in words what changed; each side is a "
        "file, a stored NAME[@VERSION], or the word `active`."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the verbs and their options."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        check = verbs.add_parser("check", help="say what is wrong in a policy file")
        check.add_argument("file", type=Path)
        load = verbs.add_parser("import", help="store a policy file and put it in force")
        load.add_argument("file", type=Path)
        load.add_argument(
            "--keep", action="store_true", help="store it, but keep the policy now in force"
        )
        load.add_argument("--dry-run", action="store_true", help="change nothing")
        export = verbs.add_parser("export", help="write a stored version as a policy file")
        export.add_argument("policy", nargs="?", default="active", metavar="NAME[@VERSION]")
        export.add_argument("--out", type=Path, help="the file to write; else the screen")
        diff = verbs.add_parser("diff", help="say in words what changed")
        diff.add_argument("old", help="a file, NAME[@VERSION] or active")
        diff.add_argument("new", help="a file, NAME[@VERSION] or active")
        diff.add_argument("--json", action="store_true", help="as JSON, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the verb."""
        try:
            match options["verb"]:
                case "export":
                    self._export(options["policy"], options["out"])
                case "diff":
                    self._diff(options["old"], options["new"], as_json=options["json"])
                case _:
                    self._check_or_import(**options)
        except Refusal as refusal:
            raise CommandError(refusal.sentence) from refusal

    def _check_or_import(self, **options: Any) -> None:
        content = policy_read(options["file"])
        tally = _tally(content)
        if options["verb"] == "check" or options["dry_run"]:
            self.stdout.write(f"{tally}. Nothing is wrong with it; nothing was changed.")
            return
        policy = policy_import(content=content, activate=not options["keep"], actor=None)
        self.stdout.write(f"{tally}. {'In force.' if policy.is_active else 'Stored.'}")

    def _export(self, name: str, out: Path | None) -> None:
        policy = _stored(name)
        if out is None:
            self.stdout.write(policy_text(policy_content(policy)), ending="")
            return
        try:
            out.write_text(policy_text(policy_content(policy), beside=out), encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{out} cannot be written: {error.strerror}.") from error
        self.stdout.write(f"{policy} written to {out}. Its digest is {policy.digest}.")

    def _diff(self, old: str, new: str, *, as_json: bool) -> None:
        before, after = _content(old), _content(new)
        changes = policy_changes(before, after)
        if as_json:
            report = {
                "before": policy_digest(before),
                "after": policy_digest(after),
                "changes": [change.as_data() for change in changes],
            }
            self.stdout.write(json.dumps(report, indent=2, ensure_ascii=False))
            return
        for change in changes:
            self.stdout.write(str(change))
        self.stdout.write(f"{len(changes)} changes." if changes else "They say the same.")


def _tally(content: PolicyFile) -> str:
    concepts = [concept for rule in content.rules for concept in rule.concepts]
    prompts = sum(len(concept.prohibited) + len(concept.contrast) for concept in concepts)
    vectors = sum(len(concept.vectors.names) for concept in concepts if concept.vectors)
    tally = f"{content.name} v{content.version}: {len(content.rules)} rules, {prompts} prompts"
    return f"{tally}, {vectors} vectors" if vectors else tally


def _content(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        return policy_read(path).model_dump(mode="json")
    return policy_content(_stored(name))


def _stored(name: str) -> Policy:
    if name == "active":
        policy = Policy.objects.filter(is_active=True).first()
    else:
        slug, _, version = name.partition("@")
        found = Policy.objects.filter(name=slug).order_by("-version")
        if version:
            found = found.filter(version=version) if version.isdigit() else found.none()
        policy = found.first()
    if policy is None:
        stored = ", ".join(
            f"{each.name}@{each.version}" for each in Policy.objects.order_by("name", "version")
        )
        raise CommandError(f"No policy “{name}” is stored. There are: {stored or 'none'}.")
    return policy
