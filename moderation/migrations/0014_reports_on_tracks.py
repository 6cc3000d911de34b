"""Reports run on tracks; likeness requests with their clock; throttles; measures against misuse."""

import django.db.models.deletion
import moderation.models.codes
from django.conf import settings
from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def lift_triggers(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Put the triggers aside: SQLite rebuilds tables here that some of them speak of."""
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


def were_told(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Who got an answer before this was told in the same moment."""
    apps.get_model("moderation", "Report").objects.update(told_at=models.F("answered_at"))


class Migration(migrations.Migration):

    dependencies = [
        ('moderation', '0013_console_and_verdicts'),
    ]

    operations = [
        migrations.RunPython(lift_triggers, put_back_triggers),
        migrations.CreateModel(
            name='Hold',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('due_at', models.DateTimeField()),
                ('held_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='LikenessRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(default=moderation.models.codes.new_code, editable=False, max_length=10, unique=True)),
                ('token', models.CharField(default=moderation.models.codes.new_token, editable=False, max_length=40, unique=True)),
                ('email', models.EmailField(max_length=254, verbose_name='e-mail')),
                ('signature', models.CharField(max_length=200)),
                ('is_intimate', models.BooleanField(default=False)),
                ('text', models.TextField(max_length=4000)),
                ('language', models.CharField(choices=[('en', 'English'), ('de', 'Deutsch')], default='en', max_length=5)),
                ('filed_at', models.DateTimeField()),
                ('valid_at', models.DateTimeField(blank=True, null=True)),
                ('due_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='PreviewHash',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('pdq', models.CharField(blank=True, max_length=64)),
                ('quality', models.PositiveSmallIntegerField(default=0)),
            ],
            options={
                'verbose_name_plural': 'preview hashes',
            },
        ),
        migrations.CreateModel(
            name='ReportEvidence',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(default=moderation.models.codes.new_code, editable=False, max_length=10, unique=True)),
                ('name', models.CharField(max_length=255)),
                ('content', models.FileField(max_length=200, upload_to='')),
            ],
            options={
                'verbose_name_plural': 'report evidence',
            },
        ),
        migrations.CreateModel(
            name='ReportingMeasure',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(default=moderation.models.codes.new_code, editable=False, max_length=10, unique=True)),
                ('measure', models.CharField(choices=[('warning', 'Warning'), ('suspension', 'Reporting suspended for a time')], max_length=10)),
                ('state', models.CharField(choices=[('proposed', 'Proposed by the figures, for a person to decide'), ('dismissed', 'Dismissed'), ('in_force', 'In force'), ('appealed', 'Appealed, waiting for another moderator'), ('upheld', 'Upheld on appeal'), ('overturned', 'Overturned on appeal')], default='proposed', max_length=10)),
                ('figures', models.JSONField(default=dict)),
                ('proposed_at', models.DateTimeField()),
                ('reason', models.TextField(blank=True)),
                ('decided_at', models.DateTimeField(blank=True, null=True)),
                ('until', models.DateTimeField(blank=True, null=True)),
                ('appeal_until', models.DateTimeField(blank=True, null=True)),
                ('appeal', models.TextField(blank=True)),
                ('appealed_at', models.DateTimeField(blank=True, null=True)),
                ('answer', models.TextField(blank=True)),
                ('answered_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='ThrottleBucket',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=100, unique=True)),
                ('full_at', models.FloatField()),
            ],
        ),
        migrations.CreateModel(
            name='TrustedFlagger',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('organisation', models.CharField(max_length=200)),
                ('expertise', models.CharField(blank=True, max_length=200)),
                ('registered_at', models.DateTimeField(auto_now_add=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='report',
            name='report_once_per_account_and_case',
        ),
        migrations.AddField(
            model_name='modelversion',
            name='hidden_from',
            field=models.DateTimeField(blank=True, help_text='From this moment nobody sees it until a person decides.', null=True),
        ),
        migrations.AddField(
            model_name='report',
            name='comparison',
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name='report',
            name='decision',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='answered_reports', to='moderation.decision'),
        ),
        migrations.AddField(
            model_name='report',
            name='due_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='report',
            name='edited_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='report',
            name='found_by',
            field=models.CharField(blank=True, max_length=12),
        ),
        migrations.AddField(
            model_name='report',
            name='good_faith',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='report',
            name='is_child_safety',
            field=models.BooleanField(default=False, help_text='About abuse of a child: nobody is asked for a name.'),
        ),
        migrations.AddField(
            model_name='report',
            name='language',
            field=models.CharField(choices=[('en', 'English'), ('de', 'Deutsch')], default='en', max_length=5),
        ),
        migrations.AddField(
            model_name='report',
            name='law',
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddField(
            model_name='report',
            name='links',
            field=models.JSONField(blank=True, default=list),
        ),
        migrations.AddField(
            model_name='report',
            name='name',
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddField(
            model_name='report',
            name='original',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='moderation.modelversion'),
        ),
        migrations.AddField(
            model_name='report',
            name='place',
            field=models.CharField(blank=True, max_length=500),
        ),
        migrations.AddField(
            model_name='report',
            name='preview',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='moderation.previewimage'),
        ),
        migrations.AddField(
            model_name='report',
            name='told_at',
            field=models.DateTimeField(blank=True, help_text='When the outcome was written to the reporter.', null=True),
        ),
        migrations.AddField(
            model_name='report',
            name='track',
            field=models.CharField(choices=[('rule', 'Breaks a rule'), ('illegal', 'Illegal content'), ('likeness', 'This is me'), ('copy', 'My work was copied'), ('flagger', 'From a trusted flagger')], default='rule', max_length=10),
        ),
        migrations.AddField(
            model_name='report',
            name='unfounded_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name='casefacet',
            name='kind',
            field=models.CharField(choices=[('rule', 'rule'), ('probe', 'probe'), ('language', 'language'), ('track', 'track of a report')], max_length=10),
        ),
        migrations.AlterField(
            model_name='report',
            name='state',
            field=models.CharField(choices=[('open', 'Being looked at'), ('acted', 'Action was taken'), ('no_action', 'No action was taken'), ('withdrawn', 'Withdrawn by who sent it')], default='open', max_length=10),
        ),
        migrations.AddIndex(
            model_name='modelversion',
            index=models.Index(condition=models.Q(('hidden_from__isnull', False)), fields=['hidden_from'], name='version_hidden_from'),
        ),
        migrations.AddField(
            model_name='hold',
            name='case',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='clock_holds', to='moderation.case'),
        ),
        migrations.AddField(
            model_name='hold',
            name='version',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='clock_holds', to='moderation.modelversion'),
        ),
        migrations.AddField(
            model_name='likenessrequest',
            name='versions',
            field=models.ManyToManyField(related_name='+', to='moderation.modelversion'),
        ),
        migrations.AddField(
            model_name='report',
            name='request',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='reports', to='moderation.likenessrequest'),
        ),
        migrations.AddIndex(
            model_name='report',
            index=models.Index(condition=models.Q(('state__in', ['acted', 'no_action']), ('told_at__isnull', True)), fields=['answered_at'], name='report_untold'),
        ),
        migrations.AddIndex(
            model_name='report',
            index=models.Index(condition=models.Q(('due_at__isnull', False), ('state', 'open')), fields=['due_at'], name='report_due'),
        ),
        migrations.AddConstraint(
            model_name='report',
            constraint=models.UniqueConstraint(condition=models.Q(('reporter__isnull', False), models.Q(('state', 'withdrawn'), _negated=True)), fields=('case', 'reporter'), name='report_once_per_account_and_case'),
        ),
        migrations.AddConstraint(
            model_name='report',
            constraint=models.UniqueConstraint(condition=models.Q(('request__isnull', False)), fields=('case', 'request'), name='report_once_per_request_and_case'),
        ),
        migrations.AddConstraint(
            model_name='report',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('track', 'likeness'), _negated=True), models.Q(('due_at__isnull', False), ('request__isnull', False)), _connector='OR'), name='report_of_likeness_has_request_and_deadline'),
        ),
        migrations.AddConstraint(
            model_name='report',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('track__in', ['flagger', 'illegal']), _negated=True), ('is_child_safety', True), models.Q(('good_faith', True), models.Q(('place', ''), _negated=True), models.Q(models.Q(('email', ''), _negated=True), ('reporter__isnull', False), _connector='OR')), _connector='OR'), name='report_of_illegality_is_complete'),
        ),
        migrations.AddField(
            model_name='previewhash',
            name='preview',
            field=models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='hash', to='moderation.previewimage'),
        ),
        migrations.AddField(
            model_name='reportevidence',
            name='report',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='evidence', to='moderation.report'),
        ),
        migrations.AddField(
            model_name='reportingmeasure',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reporting_measures', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='reportingmeasure',
            name='answered_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='reportingmeasure',
            name='decided_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='trustedflagger',
            name='account',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='trusted_flagger', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddConstraint(
            model_name='hold',
            constraint=models.UniqueConstraint(condition=models.Q(('ended_at__isnull', True)), fields=('version',), name='hold_one_at_a_time'),
        ),
        migrations.AddConstraint(
            model_name='likenessrequest',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('due_at__isnull', True), ('valid_at__isnull', True)), models.Q(('due_at__gt', models.F('valid_at')), ('valid_at__isnull', False)), _connector='OR'), name='request_valid_has_deadline'),
        ),
        migrations.AddConstraint(
            model_name='likenessrequest',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('signature', ''), _negated=True), models.Q(('text', ''), _negated=True)), name='request_is_signed_and_says_why'),
        ),
        migrations.AddConstraint(
            model_name='reportingmeasure',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'proposed')), fields=('account',), name='measure_one_proposal'),
        ),
        migrations.AddConstraint(
            model_name='reportingmeasure',
            constraint=models.CheckConstraint(condition=models.Q(('state', 'proposed'), models.Q(('decided_at__isnull', False), ('decided_by__isnull', False), models.Q(('reason', ''), _negated=True)), _connector='OR'), name='measure_decided_by_a_person_with_reason'),
        ),
        migrations.AddConstraint(
            model_name='reportingmeasure',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('measure', 'suspension'), _negated=True), ('state__in', ['proposed', 'dismissed']), models.Q(('appeal_until__isnull', False), ('until__isnull', False)), _connector='OR'), name='measure_suspension_ends_and_can_be_appealed'),
        ),
        migrations.AddConstraint(
            model_name='reportingmeasure',
            constraint=models.CheckConstraint(condition=models.Q(('answered_by__isnull', True), models.Q(models.Q(('answered_by', models.F('decided_by')), _negated=True), models.Q(('answered_by', models.F('account')), _negated=True)), _connector='OR'), name='measure_appeal_answered_by_another_person'),
        ),
        migrations.AddConstraint(
            model_name='reportingmeasure',
            constraint=models.CheckConstraint(condition=models.Q(('decided_by__isnull', True), models.Q(('decided_by', models.F('account')), _negated=True), _connector='OR'), name='measure_not_decided_by_oneself'),
        ),
        migrations.RunPython(were_told, migrations.RunPython.noop),
        migrations.RunPython(put_back_triggers, lift_triggers),
    ]
