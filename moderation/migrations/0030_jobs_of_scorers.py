"""What weighed the previews of a job, and one job of a stage under way for a version."""

from typing import Any

from django.db import migrations, models
from django.db.migrations.exceptions import IrreversibleError
from django.db.models import Count, Exists, OuterRef


def leave_the_newest(apps: Any, schema_editor: Any) -> None:
    """Take back what waits under an older policy while a newer one waits, too.

    Two runs of `rescreen` at once could queue both. Nothing is lost: a job that is not done has no
    findings, and the newer one weighs the same previews.
    """
    unfinished = apps.get_model("moderation", "TriageJob").objects.filter(
        state__in=["queued", "running"]
    )
    newer = unfinished.filter(
        version=OuterRef("version"), stage=OuterRef("stage"), pk__gt=OuterRef("pk")
    )
    doubled = list(unfinished.filter(Exists(newer)).values_list("pk", flat=True))
    unfinished.filter(pk__in=doubled).delete()


def refuse_what_was_weighed_twice(apps: Any, schema_editor: Any) -> None:
    """Say so where the old constraint cannot come back: no finding is deleted for it."""
    jobs = apps.get_model("moderation", "TriageJob").objects.values("version", "stage", "policy")
    twice = jobs.annotate(jobs=Count("pk")).filter(jobs__gt=1).count()
    if twice:
        raise IrreversibleError(
            f"{twice} versions were weighed again under one policy, which the older tables cannot "
            "hold. Restore a backup instead."
        )


class Migration(migrations.Migration):
    dependencies = [("moderation", "0029_reports_sent_once")]

    operations = [
        migrations.AddField(
            model_name="triagejob",
            name="scorer",
            field=models.CharField(
                blank=True,
                default="",
                help_text="A digest of the encoder and the heads that are asked to weigh the "
                "previews, then of those that did. Empty: nobody knows, or they could not look at "
                "all of them.",
                max_length=16,
            ),
            preserve_default=False,
        ),
        migrations.RemoveConstraint(model_name="triagejob", name="job_once_per_stage"),
        migrations.RunPython(leave_the_newest, refuse_what_was_weighed_twice),
    ]
