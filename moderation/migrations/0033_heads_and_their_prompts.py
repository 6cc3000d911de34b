"""Heads know the prompts they were learnt beside; thresholds have rows of their own.

Nobody noted the prompts of the heads that are there, so that none of them is applied until
``manage.py learn`` has fitted it again.
"""

from importlib import import_module

import django.db.models.deletion
from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# SQLite rebuilds tables here that triggers stand on.
released = import_module("moderation.migrations.0024_reasons_of_holds")

TABLE = "moderation_conceptthreshold"
MESSAGE = "What was computed is never changed; a later row replaces it."


def guard(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Let the database refuse a change, in its own dialect."""
    for verb in ("UPDATE", "DELETE"):
        name = f"{TABLE}_no_{verb.lower()}"
        if schema_editor.connection.vendor == "sqlite":
            schema_editor.execute(
                f"CREATE TRIGGER {name} BEFORE {verb} ON {TABLE} "
                f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
            )
            continue
        schema_editor.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION '{MESSAGE}' USING ERRCODE = 'integrity_constraint_violation'; "
            f"END $$"
        )
        schema_editor.execute(
            f"CREATE TRIGGER {name} BEFORE {verb} ON {TABLE} "
            f"FOR EACH ROW EXECUTE FUNCTION {name}()"
        )


def unguard(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop it again."""
    for verb in ("update", "delete"):
        name = f"{TABLE}_no_{verb}"
        if schema_editor.connection.vendor == "sqlite":
            schema_editor.execute(f"DROP TRIGGER {name}")
        else:
            schema_editor.execute(f"DROP FUNCTION {name}() CASCADE")


class Migration(migrations.Migration):

    dependencies = [
        ('moderation', '0032_when_copies_were_sought'),
    ]

    operations = [
        migrations.RunPython(released.lift_triggers, released.put_back_triggers),
        migrations.RemoveField(
            model_name='concepthead',
            name='threshold',
        ),
        migrations.AddField(
            model_name='concepthead',
            name='prompts',
            field=models.CharField(blank=True, default='', max_length=64),
        ),
        migrations.AddField(
            model_name='concepthead',
            name='held_out',
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name='headplacement',
            name='may_be_replaced',
            field=models.BooleanField(default=False, help_text='What a person put in place may give way to a better head.'),
        ),
        migrations.CreateModel(
            name='ConceptThreshold',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('rule', models.CharField(max_length=80)),
                ('concept', models.CharField(max_length=80)),
                ('encoder', models.CharField(max_length=200)),
                ('revision', models.CharField(max_length=64)),
                ('prompts', models.CharField(max_length=64)),
                ('alpha', models.FloatField(help_text='The share that may be missed.')),
                ('positives', models.PositiveIntegerField(help_text='How many it was computed from.')),
                ('value', models.FloatField(blank=True, null=True)),
                ('sentence', models.TextField()),
                ('made_at', models.DateTimeField()),
                ('head', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='thresholds', to='moderation.concepthead')),
            ],
            options={
                'indexes': [models.Index(fields=['rule', 'concept', '-id'], name='threshold_last')],
            },
        ),
        migrations.RunPython(released.put_back_triggers, released.lift_triggers),
        migrations.RunPython(guard, unguard),
    ]
