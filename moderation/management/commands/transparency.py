"""Write what the law asks to be published: statements of reasons, and the yearly report."""

import csv
import json
from argparse import ArgumentParser
from datetime import UTC, date, datetime, time
from itertools import chain
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from moderation.selectors.transparency import report_of_year
from moderation.transparency import (
    batches_of,
    concerns_the_union,
    decisions_to_report,
    holds_to_report,
    payload_of,
    record_of,
    record_of_hold,
)
from moderation.transparency_schema import Payload, statement_faults


class Command(BaseCommand):
    """``manage.py transparency export|report``."""

    help = (
        "Write what the law asks to be published. `export --since DAY --format tdb --out DIR` "
        "writes the statements of reasons of all restrictions that came into force since then, in "
        "batches of at most 100, as the EU's transparency database takes them (DSA Art. 24(5)); "
        "each is checked first, nothing is sent. `report --year Y` writes the counts of a year "
        "(DSA Art. 15 and 24) as CSV, or as JSON with --json."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the verbs and their options."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        export = verbs.add_parser("export", help="statements of reasons")
        export.add_argument("--since", type=_day, required=True, help="the first day, 2026-01-31")
        export.add_argument("--until", type=_day, help="the first day that is left out")
        export.add_argument("--format", choices=["tdb"], default="tdb")
        export.add_argument("--out", type=Path, help="a folder for one file per batch")
        export.add_argument("--dry-run", action="store_true", help="check and count, write nothing")
        export.add_argument("--json", action="store_true", help="the tally as JSON")
        report = verbs.add_parser("report", help="the counts of a year")
        report.add_argument("--year", type=int, required=True)
        report.add_argument("--out", type=Path, help="the file to write; else the screen")
        report.add_argument("--json", action="store_true", help="JSON in place of CSV")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the verb."""
        if options["verb"] == "export":
            self._export(**options)
        else:
            self._report(options["year"], options["out"], as_json=options["json"])

    def _export(self, **options: Any) -> None:
        out: Path | None = options["out"]
        if out is None and not options["dry_run"]:
            raise CommandError("Name a folder with --out DIR, or only check with --dry-run.")
        payloads: list[Payload] = []
        refused: list[str] = []
        elsewhere = 0
        span = {"since": options["since"], "until": options["until"]}
        records = chain(
            map(record_of, decisions_to_report(**span)),
            map(record_of_hold, holds_to_report(**span)),
        )
        for record in tqdm(records, unit="restriction", disable=None, leave=False):
            if not concerns_the_union(record):
                elsewhere += 1
                continue
            payload = payload_of(record)
            faults = statement_faults(payload)
            if faults:
                refused.append(f"{record.puid}: {'; '.join(faults)}")
            else:
                payloads.append(payload)
        batches = list(batches_of(payloads))
        if out is not None and not options["dry_run"]:
            out.mkdir(parents=True, exist_ok=True)
            for number, batch in enumerate(batches, start=1):
                text = json.dumps(batch, ensure_ascii=False, indent=1)
                (out / f"batch-{number:04}.json").write_text(text + "\n", encoding="utf-8")
        tally = {
            "statements": len(payloads),
            "batches": len(batches),
            "outside_the_union": elsewhere,
            "refused": refused,
            "written": out is not None and not options["dry_run"],
        }
        if options["json"]:
            self.stdout.write(json.dumps(tally, ensure_ascii=False))
        else:
            self.stdout.write(
                f"{len(payloads)} statements in {len(batches)} batches; {elsewhere} "
                f"restrict nothing in the Union; {len(refused)} refused. "
                f"{'Written to ' + str(out) if tally['written'] else 'Nothing was written'}."
            )
        if refused:
            raise CommandError("These would not be accepted:\n" + "\n".join(refused[:20]))

    def _report(self, year: int, out: Path | None, *, as_json: bool) -> None:
        report = report_of_year(year)
        if as_json:
            text = json.dumps(report.as_data(), ensure_ascii=False, indent=1) + "\n"
            if out is None:
                self.stdout.write(text, ending="")
                return
            out.write_text(text, encoding="utf-8")
            self.stdout.write(f"Written to {out}.")
            return
        if out is None:
            csv.writer(self.stdout).writerows(report.as_table())
            return
        with out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(report.as_table())
        self.stdout.write(f"Written to {out}.")


def _day(text: str) -> datetime:
    return datetime.combine(date.fromisoformat(text), time(), tzinfo=UTC)
