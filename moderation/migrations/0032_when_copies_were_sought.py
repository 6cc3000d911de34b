"""When copies were looked for, and notices of illegal content whose address is flooded.

It can be taken back only as long as every such notice of a visitor has an address.
"""

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import F, Q


def lift_triggers(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Put the triggers aside: SQLite rebuilds a table here that some of them speak of."""
    if schema_editor.connection.vendor != "sqlite":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS temp.lifted")
        cursor.execute(
            "CREATE TEMP TABLE lifted AS SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        )
        cursor.execute("SELECT name FROM temp.lifted")
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP TRIGGER {name}")


def put_back_triggers(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create them again as they were."""
    if schema_editor.connection.vendor != "sqlite":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT sql FROM temp.lifted")
        for (sql,) in cursor.fetchall():
            cursor.execute(sql)
        cursor.execute("DROP TABLE temp.lifted")


def were_sought(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Leave alone what people decided before this was noted: it opens no new case."""
    requests = apps.get_model("moderation", "LikenessRequest").objects
    requests.filter(valid_at__isnull=False).update(swept_at=F("valid_at"))


class Migration(migrations.Migration):
    dependencies = [("moderation", "0031_one_job_at_a_time")]

    operations = [
        migrations.RunPython(lift_triggers, put_back_triggers),
        migrations.AddField(
            model_name="likenessrequest",
            name="swept_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.RunPython(were_sought, migrations.RunPython.noop),
        migrations.RemoveConstraint(
            model_name="report",
            name="report_of_illegality_is_complete",
        ),
        migrations.AddConstraint(
            model_name="report",
            constraint=models.CheckConstraint(
                condition=~Q(track__in=["flagger", "illegal"])
                | Q(is_child_safety=True)
                | Q(good_faith=True)
                & ~Q(place="")
                & (~Q(email="") | ~Q(name="") | Q(reporter__isnull=False)),
                name="report_of_illegality_is_complete",
            ),
        ),
        migrations.RunPython(put_back_triggers, lift_triggers),
    ]
