"""Fills the new columns of the decisions that are there, and creates all triggers."""

from importlib import import_module
from typing import Any

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

released = import_module("moderation.migrations.0002_triggers")
REPORTED = released.REPORTED
NOT_CREATOR = released.NOT_CREATOR
APPEALED_VERSION = released.APPEALED_VERSION

# Whoever made or confirmed a decision, one on the same case, of the same chain or the same bulk.
# What grants the very appeal at hand does not count, nor who took back another one of the chain.
TOOK_PART = """EXISTS (
    SELECT 1 FROM moderation_decision judged
    JOIN moderation_decision beside ON beside.id = judged.id
        OR beside.case_id = judged.case_id
        OR (beside.chain = judged.chain AND judged.chain <> '' AND beside.action <> 'reverse')
        OR (beside.bulk = judged.bulk AND judged.bulk <> '')
    LEFT JOIN moderation_effect effect ON effect.decision_id = beside.id
    WHERE judged.id = {decision}
      AND (beside.appeal_id IS NULL OR beside.appeal_id <> {appeal})
      AND (beside.decided_by_id = {person} OR effect.second_person_id = {person})
)"""
APPEAL_OF_EFFECT = "(SELECT appeal_id FROM moderation_decision WHERE id = NEW.decision_id)"
OVERRIDDEN_BY_EFFECT = "(SELECT overrides_id FROM moderation_decision WHERE id = NEW.decision_id)"
VERSION_OF_EFFECT = "(SELECT version_id FROM moderation_decision WHERE id = NEW.decision_id)"
CREATOR_OF_EFFECT = "(SELECT creator_id FROM moderation_decision WHERE id = NEW.decision_id)"
MOVES = """NOT (OLD.state = NEW.state
    OR (OLD.state = 'held' AND NEW.state IN ('due', 'cancelled'))
    OR (OLD.state = 'due' AND NEW.state IN ('in_force', 'undone'))
    OR (OLD.state = 'in_force' AND NEW.state = 'ended'))"""

# name, table, verb, condition, message.
GUARDS = [
    *[guard for guard in released.GUARDS if guard[0] != "appeal_copies_its_decision"],
    (
        "appeal_copies_its_decision",
        "moderation_appeal",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM moderation_decision WHERE id = NEW.decision_id"
        " AND decided_by_id = NEW.decided_by_id"
        " AND (NEW.side = 'reporter' OR creator_id = NEW.appellant_id))",
        "The appeal does not agree with the decision it is against.",
    ),
    (
        "appeal_by_its_reporter",
        "moderation_appeal",
        "INSERT",
        "NEW.side = 'reporter' AND NOT EXISTS (SELECT 1 FROM moderation_report report"
        " JOIN moderation_decision decision ON decision.version_id = report.version_id"
        " WHERE report.id = NEW.report_id AND decision.id = NEW.decision_id"
        " AND (report.reporter_id = NEW.appellant_id"
        " OR (report.reporter_id IS NULL AND NEW.appellant_id IS NULL)))",
        "The appeal is not by who reported.",
    ),
    (
        "appeal_not_answered_by_participant",
        "moderation_appeal",
        "UPDATE",
        "NEW.answered_by_id IS NOT NULL AND "
        + TOOK_PART.format(
            decision="NEW.decision_id", appeal="NEW.id", person="NEW.answered_by_id"
        ),
        "Nobody answers an appeal against a decision they took part in.",
    ),
    (
        "appeal_not_answered_by_creator",
        "moderation_appeal",
        "UPDATE",
        "NEW.answered_by_id IS NOT NULL AND EXISTS (SELECT 1 FROM moderation_decision"
        " WHERE id = NEW.decision_id AND creator_id = NEW.answered_by_id)",
        "Nobody answers an appeal about their own model.",
    ),
    (
        "decision_on_appeal_not_by_participant",
        "moderation_decision",
        "INSERT",
        "NEW.appeal_id IS NOT NULL AND "
        + TOOK_PART.format(
            decision="NEW.overrides_id", appeal="NEW.appeal_id", person="NEW.decided_by_id"
        ),
        "Nobody grants an appeal against a decision they took part in.",
    ),
    (
        "effect_copies_its_decision",
        "moderation_effect",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM moderation_decision WHERE id = NEW.decision_id"
        " AND decided_by_id = NEW.decided_by_id)",
        "The effect does not agree with its decision.",
    ),
    (
        "effect_keeps_its_decision",
        "moderation_effect",
        "UPDATE",
        "NEW.decision_id <> OLD.decision_id OR NEW.decided_by_id <> OLD.decided_by_id",
        "An effect keeps its decision.",
    ),
    (
        "effect_moves_along",
        "moderation_effect",
        "UPDATE",
        MOVES,
        "A decision that is in force, undone or cancelled stays so.",
    ),
    (
        "effect_confirmed_before_it_is_due",
        "moderation_effect",
        "UPDATE",
        "OLD.state = 'held' AND NEW.state = 'due' AND NEW.second_person_id IS NULL",
        "A held decision waits for a second person.",
    ),
    (
        "effect_not_confirmed_by_reporter",
        "moderation_effect",
        "UPDATE",
        "NEW.second_person_id IS NOT NULL AND "
        + REPORTED.format(version=VERSION_OF_EFFECT, person="NEW.second_person_id"),
        "Nobody confirms a decision about a model they reported.",
    ),
    (
        "effect_not_confirmed_by_creator",
        "moderation_effect",
        "UPDATE",
        f"NEW.second_person_id = {CREATOR_OF_EFFECT}",
        "Nobody confirms a decision about their own model.",
    ),
    (
        "effect_on_appeal_not_confirmed_by_participant",
        "moderation_effect",
        "UPDATE",
        f"NEW.second_person_id IS NOT NULL AND {APPEAL_OF_EFFECT} IS NOT NULL AND "
        + TOOK_PART.format(
            decision=OVERRIDDEN_BY_EFFECT,
            appeal=APPEAL_OF_EFFECT,
            person="NEW.second_person_id",
        ),
        "Nobody confirms that a decision they took part in is taken back on appeal.",
    ),
    (
        "strike_keeps_its_weight",
        "moderation_strike",
        "UPDATE",
        "NEW.account_id <> OLD.account_id OR NEW.decision_id <> OLD.decision_id"
        " OR NEW.points <> OLD.points OR NEW.given_at <> OLD.given_at"
        " OR NEW.expires_at <> OLD.expires_at OR NEW.half_life_days <> OLD.half_life_days"
        " OR OLD.voided_at IS NOT NULL",
        "A strike is frozen as it was given; it can only be voided, once.",
    ),
    (
        "strike_no_delete",
        "moderation_strike",
        "DELETE",
        "TRUE",
        "A strike is voided, never deleted.",
    ),
]
IMMUTABLE = [
    *released.IMMUTABLE,
    ("moderation_statementofreasons", "A statement of reasons stays as it was sent."),
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
    for name, _, _, _, _ in _guards():
        if schema_editor.connection.vendor == "sqlite":
            schema_editor.execute(f"DROP TRIGGER {name}")
        else:
            schema_editor.execute(f"DROP FUNCTION {name}() CASCADE")


def fill(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Bring what was decided before into the chain: in force, told, and stated as it was sent."""
    Decision = apps.get_model("moderation", "Decision")
    Effect = apps.get_model("moderation", "Effect")
    Notice = apps.get_model("moderation", "Notice")
    Statement = apps.get_model("moderation", "StatementOfReasons")
    Entry: Any = apps.get_model("moderation", "BankEntry")
    Decision.objects.update(message=models.F("facts"), chain=models.F("code"))
    for decision in Decision.objects.iterator(2000):
        Effect.objects.create(
            decision=decision,
            state="in_force",
            decided_by_id=decision.decided_by_id,
            ended_at=decision.decided_at,
        )
        if decision.action != "approve":
            notice = Notice.objects.filter(decision=decision, kind__startswith="decision_").first()
            Statement.objects.create(
                decision=decision,
                recipient_id=decision.creator_id,
                content={
                    "facts": decision.facts,
                    "clauses": decision.clauses,
                    "text": notice.text if notice else "",
                },
                issued_at=decision.decided_at,
            )
    for entry in Entry.objects.all():
        if entry.decision_id:
            entry.decisions.add(entry.decision_id)
        else:
            entry.is_imported = True
            entry.save(update_fields=["is_imported"])
    # An appeal that was granted is a decision from now on; these were granted before.
    Appeal: Any = apps.get_model("moderation", "Appeal")
    for appeal in Appeal.objects.filter(state="overturned"):
        before = appeal.decision
        granted = Decision.objects.create(
            case_id=appeal.case_id,
            version_id=before.version_id,
            action="reverse",
            policy_id=before.policy_id,
            clauses=before.clauses,
            facts=appeal.answer,
            message=appeal.answer,
            decided_by_id=appeal.answered_by_id,
            creator_id=before.creator_id,
            automated_detection=before.automated_detection,
            previous_visibility=before.new_visibility,
            new_visibility=before.new_visibility,
            previous_state={"versions": {}},
            overrides=before,
            appeal=appeal,
            chain=before.code,
            decided_at=appeal.answered_at,
        )
        Effect.objects.create(
            decision=granted,
            state="in_force",
            decided_by_id=appeal.answered_by_id,
            ended_at=appeal.answered_at,
        )
    if schema_editor.connection.vendor == "postgresql":
        # PostgreSQL alters no table whose new rows have yet to be checked against others.
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")


class Migration(migrations.Migration):
    dependencies = [("moderation", "0010_decisions_and_what_follows")]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RemoveField(
            model_name="bankentry",
            name="decision",
        ),
        migrations.AddConstraint(
            model_name="decision",
            constraint=models.CheckConstraint(
                condition=models.Q(("message", ""), _negated=True), name="decision_has_message"
            ),
        ),
        migrations.RunPython(create, drop),
    ]
