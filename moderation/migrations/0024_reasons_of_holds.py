"""A statement of reasons may be about a hold; its creator may say something against it.

It can be taken back only as long as no hold has a statement: the tables before knew none, and
statements are kept. Restore a backup from before it instead.
"""

import django.db.models.deletion
from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.exceptions import IrreversibleError


def lift_triggers(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Put the triggers aside: SQLite rebuilds tables here that some of them stand on."""
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


def nothing_to_refuse(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Do nothing on the way forward."""


def refuse_where_holds_have_statements(
    apps: Apps, schema_editor: BaseDatabaseSchemaEditor
) -> None:
    """Raise IrreversibleError, before anything was changed, if a statement would be lost."""
    told = apps.get_model("moderation", "StatementOfReasons").objects.filter(hold__isnull=False)
    if told.exists():
        raise IrreversibleError(
            f"{told.count():,} holds have a statement of reasons, which the tables before this "
            "migration cannot keep. Nothing was changed. To go back, restore a backup from before "
            "it."
        )


class Migration(migrations.Migration):

    dependencies = [
        ('moderation', '0023_small_pictures'),
    ]

    operations = [
        migrations.RunPython(lift_triggers, put_back_triggers),
        migrations.AddField(
            model_name='hold',
            name='report',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='clock_holds', to='moderation.report'),
        ),
        migrations.AddField(
            model_name='hold',
            name='objection',
            field=models.TextField(blank=True, default='', max_length=4000),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='hold',
            name='objected_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name='hold',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('objected_at__isnull', True), ('objection', '')), models.Q(models.Q(('objection', ''), _negated=True), ('objected_at__isnull', False)), _connector='OR'), name='hold_objection_has_moment'),
        ),
        migrations.AlterField(
            model_name='statementofreasons',
            name='decision',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='statement', to='moderation.decision'),
        ),
        migrations.AddField(
            model_name='statementofreasons',
            name='hold',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='statement', to='moderation.hold'),
        ),
        migrations.AddConstraint(
            model_name='statementofreasons',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('decision__isnull', False), ('hold__isnull', True)), models.Q(('decision__isnull', True), ('hold__isnull', False)), _connector='OR'), name='statement_of_a_decision_or_a_hold'),
        ),
        migrations.RunPython(put_back_triggers, lift_triggers),
        # The last operation is the first on the way back.
        migrations.RunPython(nothing_to_refuse, refuse_where_holds_have_statements),
    ]
