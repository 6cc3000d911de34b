"""What the database itself refuses: a changed record, a changed decision, judging one's own."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# name, table, timing, condition, message. `{...}` differ between the two databases.
IMMUTABLE = [
    ("moderation_event", "The record of events is append-only."),
    ("moderation_decision", "A decision is never changed; a later one overrides it."),
]
REPORTED = """EXISTS (
    SELECT 1 FROM moderation_report report
    JOIN moderation_modelversion reported ON reported.id = report.version_id
    JOIN moderation_modelversion judged ON judged.uploaded_model_id = reported.uploaded_model_id
    WHERE judged.id = {version} AND report.reporter_id = {person}
)"""
NOT_CREATOR = """NOT EXISTS (
    SELECT 1 FROM moderation_modelversion judged
    JOIN moderation_uploadedmodel page ON page.id = judged.uploaded_model_id
    WHERE judged.id = {version} AND page.creator_id = {person}
)"""
APPEALED_VERSION = "(SELECT version_id FROM moderation_decision WHERE id = NEW.decision_id)"
GUARDS = [
    (
        "decision_not_by_reporter",
        "moderation_decision",
        "INSERT",
        REPORTED.format(version="NEW.version_id", person="NEW.decided_by_id"),
        "Nobody decides about a model they reported.",
    ),
    (
        "decision_names_the_creator",
        "moderation_decision",
        "INSERT",
        NOT_CREATOR.format(version="NEW.version_id", person="NEW.creator_id"),
        "The decision names somebody else than the creator of the model.",
    ),
    (
        "appeal_copies_its_decision",
        "moderation_appeal",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM moderation_decision WHERE id = NEW.decision_id"
        " AND decided_by_id = NEW.decided_by_id AND creator_id = NEW.appellant_id)",
        "The appeal does not agree with the decision it is against.",
    ),
    (
        "appeal_keeps_its_decision",
        "moderation_appeal",
        "UPDATE",
        "NEW.decision_id <> OLD.decision_id OR NEW.decided_by_id <> OLD.decided_by_id"
        " OR NEW.appellant_id <> OLD.appellant_id OR OLD.state <> 'open'",
        "An answered appeal is never changed, and an open one keeps its decision.",
    ),
    (
        "appeal_not_answered_by_reporter",
        "moderation_appeal",
        "UPDATE",
        "NEW.answered_by_id IS NOT NULL AND "
        + REPORTED.format(version=APPEALED_VERSION, person="NEW.answered_by_id"),
        "Nobody answers an appeal about a model they reported.",
    ),
]


def _guards() -> list[tuple[str, str, str, str, str]]:
    guards = list(GUARDS)
    for table, message in IMMUTABLE:
        for verb in ("UPDATE", "DELETE"):
            guards.append((f"{table}_no_{verb.lower()}", table, verb, "TRUE", message))
    return guards


def create(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create the triggers in the dialect of the database at hand."""
    vendor = schema_editor.connection.vendor
    for name, table, verb, condition, message in _guards():
        if vendor == "sqlite":
            schema_editor.execute(
                f"CREATE TRIGGER {name} BEFORE {verb} ON {table} WHEN {condition} "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )
        else:
            row = "OLD" if verb == "DELETE" else "NEW"
            schema_editor.execute(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF {condition} THEN RAISE EXCEPTION '{message}' "
                f"USING ERRCODE = 'integrity_constraint_violation'; END IF; "
                f"RETURN {row}; END $$"
            )
            schema_editor.execute(
                f"CREATE TRIGGER {name} BEFORE {verb} ON {table} "
                f"FOR EACH ROW EXECUTE FUNCTION {name}()"
            )


def drop(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop them again."""
    for name, table, _, _, _ in _guards():
        if schema_editor.connection.vendor == "sqlite":
            schema_editor.execute(f"DROP TRIGGER {name}")
        else:
            schema_editor.execute(f"DROP FUNCTION {name}() CASCADE")


class Migration(migrations.Migration):
    dependencies = [("moderation", "0001_tables")]
    operations = [migrations.RunPython(create, drop)]
