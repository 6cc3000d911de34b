"""The constraint for it, apart: PostgreSQL alters no table in the transaction that deleted rows."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("moderation", "0030_jobs_of_scorers")]

    operations = [
        migrations.AddConstraint(
            model_name="triagejob",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ("queued", "running"))),
                fields=("version", "stage"),
                name="job_one_at_a_time",
            ),
        ),
    ]
