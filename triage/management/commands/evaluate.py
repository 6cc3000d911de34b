"""Measure a policy's concepts on labelled pictures."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from moderation.errors import Refusal
from moderation.policy import POLICY_DIR
from moderation.selectors.rescreening import policy_named
from moderation.selectors.workers import policy_data
from triage import encoders
from triage.encoders.base import Encoder, EncoderError
from triage.evaluation import Evaluation, EvaluationError, evaluate, read_collection, table
from triage.policy_files import read_policy
from triage.sample import Policy
from triage.scoring import ScoringError
from triage.tasks import policy_from


def _policy_in_force() -> Policy:
    stored = policy_named("")
    if stored is None:
        raise CommandError("No policy is in force. Import one with `manage.py policy import`.")
    return policy_from(policy_data(stored))


class Command(BaseCommand):
    """``manage.py evaluate --data DIR``."""

    help = (
        "Measure how well each concept of a policy is found in labelled pictures: AUC, average "
        "precision, recall at 1, 5 and 10 % review load, calibration error, and how many pictures "
        "the thresholds find, miss and stop for nothing. --data is a folder with "
        "CONCEPT/positive/ and CONCEPT/negative/ in it, or a CSV file with the columns path, "
        "concept, label. It measures the prompts of a policy file or, with --in-force, what the "
        "next upload will meet. Changes nothing. "
        "`--experiment learning` needs no data: it shows on "
        "drawings how far noisy labels raise a badly prompted concept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--data", type=Path, help="folder or CSV file of labelled pictures")
        what.add_argument("--experiment", choices=["learning"], help="measure on drawings instead")
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--policy", type=Path, help="policy file (the demo policy)")
        which.add_argument(
            "--in-force",
            action="store_true",
            help="the policy in force with the heads in place, as the next upload will be scored",
        )
        parser.add_argument("--encoder", help="encoder (the one of the ENCODER setting)")
        parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
        parser.add_argument("--plot", type=Path, help="also write the curves to this PNG file")

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure and print."""
        try:
            encoder = encoders.load(options["encoder"] or settings.ENCODER)
            if options["experiment"]:
                self._experiment(encoder, as_json=options["json"])
                return
            if options["in_force"]:
                policy = _policy_in_force()
            else:
                policy = read_policy(options["policy"] or POLICY_DIR / "demo.yaml")
            collection = read_collection(options["data"], policy)
            pictures = len({item.path for item in collection.items})
            with tqdm(total=pictures, desc="Evaluating", unit=" pictures") as progress:
                evaluation = evaluate(collection, policy, encoder, advance=progress.update)
        except (EncoderError, EvaluationError, ScoringError, Refusal) as error:
            raise CommandError(str(error)) from error
        except ImportError as error:
            raise CommandError(f"Measuring needs the extra “learning” ({error}).") from error
        if options["json"]:
            self.stdout.write(json.dumps(evaluation.as_dict(), indent=2))
        else:
            self._report(evaluation)
        if not evaluation.concepts:
            raise CommandError("None of the pictures could be read; nothing was measured.")
        if options["plot"]:
            self._plot(evaluation, options["plot"])

    def _report(self, evaluation: Evaluation) -> None:
        if evaluation.demo_encoder:
            self.stdout.write("The demo encoder knows drawings only; elsewhere this is noise.")
        if evaluation.concepts:
            self.stdout.write(table(evaluation))
        for problem in evaluation.problems:
            self.stdout.write(f"not used: {problem.path}: {problem.reason} [{problem.code}]")
        self.stdout.write(
            f"{evaluation.pictures} pictures measured for {len(evaluation.concepts)} concepts of "
            f"{evaluation.policy} with {evaluation.encoder}; {len(evaluation.problems)} files "
            "not used."
        )

    def _plot(self, evaluation: Evaluation, path: Path) -> None:
        from triage.evaluation_plot import plot

        try:
            plot(evaluation, path)
        except ImportError as error:
            raise CommandError(f"A plot needs the extra “learning” ({error}).") from error
        except OSError as error:
            raise CommandError(f"The plot cannot be written: {error}.") from error
        self.stderr.write(f"The curves are in {path}.")

    def _experiment(self, encoder: Encoder, *, as_json: bool) -> None:
        from triage.learning.experiment import run_experiment

        found = run_experiment(encoder)
        if as_json:
            self.stdout.write(json.dumps(found.as_dict(), indent=2))
            return
        self.stdout.write(
            f"{found.encoder}, “{found.concept}”, {found.noise:.0%} of the labels wrong.\n"
            f"Average precision of the bad prompt {found.zero_shot:.3f}, of a good one "
            f"{found.well_prompted:.3f}."
        )
        for each in found.learnt:
            self.stdout.write(
                f"{each.labels:5} labels: {each.mean:.3f} (lowest {each.lowest:.3f}), {each.kind}"
            )
        for name, missed in (("noisy", found.missed), ("clean", found.missed_clean)):
            self.stdout.write(
                f"Missed of fresh positives, thresholds from {name} labels at {found.alpha:.0%}: "
                f"{sum(missed) / len(missed):.2%} on average over {len(missed)} draws, "
                f"{max(missed):.2%} in the worst."
            )
