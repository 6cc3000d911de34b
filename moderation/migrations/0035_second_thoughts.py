from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

NAME = "moderation_secondreview_blind"
MESSAGE = "Who confirmed a decision does not answer it again."
CONFIRMED = """
    EXISTS (
        SELECT 1 FROM moderation_reviewitem AS item
        JOIN moderation_effect AS effect ON effect.decision_id = item.decision_id
        WHERE item.id = NEW.item_id AND effect.second_person_id = NEW.reviewer_id
    )
"""


def guard(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Let the database refuse an answer by the second person, in its own dialect."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(
            f"CREATE TRIGGER {NAME} BEFORE INSERT ON moderation_secondreview "
            f"WHEN {CONFIRMED} BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
        )
        return
    schema_editor.execute(
        f"CREATE FUNCTION {NAME}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {CONFIRMED} THEN RAISE EXCEPTION '{MESSAGE}' "
        f"USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$"
    )
    schema_editor.execute(
        f"CREATE TRIGGER {NAME} BEFORE INSERT ON moderation_secondreview "
        f"FOR EACH ROW EXECUTE FUNCTION {NAME}()"
    )


def unguard(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop it again."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(f"DROP TRIGGER {NAME}")
    else:
        schema_editor.execute(f"DROP FUNCTION {NAME}() CASCADE")


class Migration(migrations.Migration):

    dependencies = [
        ('moderation', '0034_exposure_look_by_look'),
    ]

    operations = [
        migrations.AlterField(
            model_name='case',
            name='source',
            field=models.CharField(choices=[('triage', "a probe's finding"), ('report', 'a report'), ('appeal', 'an appeal that was sent back'), ('moderator', 'a moderator who doubts a decision')], max_length=10),
        ),
        migrations.RunPython(guard, unguard),
    ]
