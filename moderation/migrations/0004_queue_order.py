"""The order of the queue, what cases are found by, and what they wait for."""

import datetime
import django.db.models.deletion
import django.utils.timezone
import moderation.models.codes
from django.conf import settings
from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def start_clocks(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Give the cases that are there a clock and a place; the sweeper weighs the open ones."""
    Case = apps.get_model("moderation", "Case")
    # Each row once: PostgreSQL builds no index on a table with rows changed twice in a transaction.
    appeals = Case.objects.filter(state__in=["appealed", "hearing"])
    Case.objects.exclude(pk__in=appeals.values("pk")).update(
        clock_from=models.F("opened_at"), turn_at=models.F("due_at")
    )
    # An appeal is to be answered within 72 hours of its filing.
    appeals.update(
        clock_from=models.F("due_at") - datetime.timedelta(hours=72), turn_at=models.F("due_at")
    )


def index_words(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Index the texts by trigrams where PostgreSQL can: any part of a word is found without a scan."""
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'")
        if cursor.fetchone() is None:
            return
    schema_editor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    schema_editor.execute(
        "CREATE INDEX case_text_words ON moderation_casetext USING gin (text gin_trgm_ops)"
    )


def forget_words(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the index; the extension may serve somebody else."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX IF EXISTS case_text_words")


class Migration(migrations.Migration):

    dependencies = [
        ('moderation', '0003_heartbeats_and_probe_times'),
    ]

    operations = [
        migrations.CreateModel(
            name='CaseFacet',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('rule', 'rule'), ('probe', 'probe'), ('language', 'language')], max_length=10)),
                ('value', models.CharField(max_length=60)),
            ],
        ),
        migrations.CreateModel(
            name='CaseText',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('text', models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name='Inquiry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(default=moderation.models.codes.new_code, editable=False, max_length=10, unique=True)),
                ('text', models.TextField(max_length=2000)),
                ('asked_at', models.DateTimeField()),
                ('answer_until', models.DateTimeField()),
                ('answer', models.TextField(blank=True, max_length=4000)),
                ('closed_at', models.DateTimeField(blank=True, help_text='When it was answered, ran out, or was taken back.', null=True)),
            ],
            options={
                'verbose_name_plural': 'inquiries',
            },
        ),
        migrations.CreateModel(
            name='SavedFilter',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60)),
                ('query', models.CharField(max_length=1000)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='case',
            name='case_one_open_per_version',
        ),
        migrations.RemoveIndex(
            model_name='case',
            name='case_queue',
        ),
        migrations.RemoveIndex(
            model_name='case',
            name='case_state',
        ),
        migrations.AddField(
            model_name='case',
            name='assigned_to',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='assigned_cases', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='case',
            name='clock_from',
            field=models.DateTimeField(default=django.utils.timezone.now),
        ),
        migrations.AddField(
            model_name='case',
            name='escalated_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='case',
            name='paused_for',
            field=models.DurationField(default=datetime.timedelta),
        ),
        migrations.AddField(
            model_name='case',
            name='reasons',
            field=models.JSONField(default=dict, help_text='What the priority was computed from, for the people who ask why.'),
        ),
        migrations.AddField(
            model_name='case',
            name='turn_at',
            field=models.DateTimeField(default=django.utils.timezone.now, help_text="The queue's order: the deadline, earlier the greater the risk (ordering.py)."),
        ),
        migrations.AddField(
            model_name='case',
            name='weighed_at',
            field=models.DateTimeField(blank=True, help_text='When the priority was computed; empty asks for it.', null=True),
        ),
        migrations.AlterField(
            model_name='case',
            name='priority',
            field=models.PositiveIntegerField(default=0, help_text='Harm times probability times reach, in hundredths (ordering.py).'),
        ),
        migrations.AlterField(
            model_name='case',
            name='state',
            field=models.CharField(choices=[('queued', 'Waiting for a moderator'), ('claimed', 'With a moderator'), ('asked', 'Waiting for the creator'), ('escalated', 'Waiting for a senior moderator'), ('decided', 'Decided'), ('appealed', 'Appealed, waiting for another moderator'), ('hearing', 'Appeal with a moderator'), ('closed', 'Closed')], default='queued', max_length=10),
        ),
        migrations.AddIndex(
            model_name='case',
            index=models.Index(condition=models.Q(('state__in', ['appealed', 'escalated', 'queued'])), fields=['turn_at', 'id'], name='case_waiting'),
        ),
        migrations.AddIndex(
            model_name='case',
            index=models.Index(condition=models.Q(('state__in', ['appealed', 'asked', 'claimed', 'escalated', 'hearing', 'queued'])), fields=['turn_at', 'id'], name='case_listed'),
        ),
        migrations.AddIndex(
            model_name='case',
            index=models.Index(fields=['state', 'turn_at', 'id'], name='case_by_state'),
        ),
        migrations.AddIndex(
            model_name='case',
            index=models.Index(condition=models.Q(('state__in', ['appealed', 'asked', 'claimed', 'escalated', 'hearing', 'queued'])), fields=['due_at'], name='case_due'),
        ),
        migrations.AddIndex(
            model_name='case',
            index=models.Index(condition=models.Q(('state__in', ['claimed', 'hearing'])), fields=['claimed_until'], name='case_claimed_until'),
        ),
        migrations.AddIndex(
            model_name='case',
            index=models.Index(condition=models.Q(('state__in', ['appealed', 'asked', 'claimed', 'escalated', 'hearing', 'queued']), ('weighed_at__isnull', True)), fields=['opened_at'], name='case_unweighed'),
        ),
        migrations.AddConstraint(
            model_name='case',
            constraint=models.UniqueConstraint(condition=models.Q(('state__in', ['asked', 'claimed', 'escalated', 'queued'])), fields=('version',), name='case_one_open_per_version'),
        ),
        migrations.AddField(
            model_name='casefacet',
            name='case',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='facets', to='moderation.case'),
        ),
        migrations.AddField(
            model_name='casetext',
            name='case',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='texts', to='moderation.case'),
        ),
        migrations.AddField(
            model_name='casetext',
            name='report',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='moderation.report'),
        ),
        migrations.AddField(
            model_name='inquiry',
            name='asked_by',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='inquiries', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='inquiry',
            name='case',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='inquiries', to='moderation.case'),
        ),
        migrations.AddField(
            model_name='savedfilter',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='saved_filters', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='casefacet',
            index=models.Index(fields=['kind', 'value', 'case'], name='facet_cases'),
        ),
        migrations.AddConstraint(
            model_name='casefacet',
            constraint=models.UniqueConstraint(fields=('case', 'kind', 'value'), name='facet_once'),
        ),
        migrations.AddConstraint(
            model_name='casetext',
            constraint=models.UniqueConstraint(condition=models.Q(('report__isnull', True)), fields=('case',), name='case_text_of_upload_once'),
        ),
        migrations.AddIndex(
            model_name='inquiry',
            index=models.Index(condition=models.Q(('closed_at__isnull', True)), fields=['answer_until'], name='inquiry_due'),
        ),
        migrations.AddConstraint(
            model_name='inquiry',
            constraint=models.UniqueConstraint(condition=models.Q(('closed_at__isnull', True)), fields=('case',), name='inquiry_one_open'),
        ),
        migrations.AddConstraint(
            model_name='inquiry',
            constraint=models.CheckConstraint(condition=models.Q(('closed_at__isnull', False), ('answer', ''), _connector='OR'), name='inquiry_answered_is_closed'),
        ),
        migrations.AddConstraint(
            model_name='savedfilter',
            constraint=models.UniqueConstraint(fields=('account', 'name'), name='saved_filter_name_once'),
        ),
        migrations.RunPython(start_clocks, migrations.RunPython.noop),
        migrations.RunPython(index_words, forget_words),
    ]
