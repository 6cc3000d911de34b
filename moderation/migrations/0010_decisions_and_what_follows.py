"""Decisions as a chain with effects, statements, strikes, appeals of both sides, holds.

The triggers are lifted here, since SQLite forgets those of a table it rebuilds, and refuses to rename
one that another trigger reads. 0011 fills the new columns and creates them all again.
"""

from importlib import import_module

import django.db.models.deletion
import moderation.models.codes
from django.apps.registry import Apps
from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

released = import_module("moderation.migrations.0002_triggers")


def lift(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the triggers of 0002."""
    released.drop(apps, schema_editor)


def put_back(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Create the triggers of 0002 again."""
    released.create(apps, schema_editor)


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('moderation', '0009_uploads_in_parts'),
    ]

    operations = [
        migrations.RunPython(lift, put_back),
        migrations.AlterField(
            model_name='bankentry',
            name='decision',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='moderation.decision'),
        ),
        migrations.CreateModel(
            name='AppealFile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(default=moderation.models.codes.new_code, editable=False, max_length=10, unique=True)),
                ('name', models.CharField(max_length=255)),
                ('content', models.FileField(max_length=200, upload_to='')),
                ('kind', models.CharField(help_text='Its type, told from its first bytes.', max_length=40)),
                ('size', models.PositiveIntegerField()),
                ('sha256', models.CharField(max_length=64)),
                ('purged_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='AppealMessage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('from_team', models.BooleanField()),
                ('text', models.TextField(max_length=4000)),
                ('written_at', models.DateTimeField()),
            ],
            options={
                'ordering': ['written_at', 'pk'],
            },
        ),
        migrations.CreateModel(
            name='ChildSafetyRecord',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(default=moderation.models.codes.new_code, editable=False, max_length=10, unique=True)),
                ('opened_at', models.DateTimeField()),
                ('preserve_until', models.DateTimeField()),
                ('checklist', models.JSONField(default=dict)),
                ('authority', models.CharField(blank=True, max_length=200)),
                ('reference', models.CharField(blank=True, max_length=200)),
                ('sent_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='ClearedDigest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('file', 'a file of weights'), ('preview', 'a preview'), ('texts', 'what the page says')], max_length=10)),
                ('sha256', models.CharField(max_length=64)),
                ('rule', models.SlugField(max_length=60)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name='CountryBlock',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('country', models.CharField(max_length=2)),
                ('until', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Effect',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[('held', 'Waits for a second person'), ('due', 'Can still be undone'), ('in_force', 'In force'), ('ended', 'Its time is over'), ('undone', 'Undone before anybody was told'), ('cancelled', 'Withdrawn before a second person confirmed it')], max_length=10)),
                ('due_at', models.DateTimeField(blank=True, help_text='Until then it can be undone and nobody is told.', null=True)),
                ('confirmed_at', models.DateTimeField(blank=True, null=True)),
                ('ended_at', models.DateTimeField(blank=True, help_text='When it came into force, was undone or was cancelled.', null=True)),
            ],
        ),
        migrations.CreateModel(
            name='LegalHold',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.CharField(default=moderation.models.codes.new_code, editable=False, max_length=10, unique=True)),
                ('reason', models.TextField()),
                ('until', models.DateTimeField(blank=True, help_text='Empty: until it is released.', null=True)),
                ('placed_at', models.DateTimeField()),
                ('released_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='StatementOfReasons',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('content', models.JSONField()),
                ('issued_at', models.DateTimeField()),
            ],
            options={
                'verbose_name_plural': 'statements of reasons',
            },
        ),
        migrations.CreateModel(
            name='Strike',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('rule', models.SlugField(max_length=60)),
                ('points', models.DecimalField(decimal_places=2, max_digits=5)),
                ('was_first', models.BooleanField(default=False, help_text='Counted at half for that.')),
                ('half_life_days', models.PositiveSmallIntegerField()),
                ('given_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('voided_at', models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='account',
            name='account_role',
        ),
        migrations.RemoveConstraint(
            model_name='appeal',
            name='appeal_not_answered_by_appellant',
        ),
        migrations.RemoveConstraint(
            model_name='appeal',
            name='appeal_answered_by_a_person_with_reasons',
        ),
        migrations.RemoveConstraint(
            model_name='case',
            name='case_one_open_per_version',
        ),
        migrations.RemoveConstraint(
            model_name='decision',
            name='decision_restriction_has_rule_and_way_back',
        ),
        migrations.RemoveConstraint(
            model_name='modelversion',
            name='version_visibility',
        ),
        migrations.RemoveIndex(
            model_name='case',
            name='case_listed',
        ),
        migrations.RemoveIndex(
            model_name='case',
            name='case_due',
        ),
        migrations.RemoveIndex(
            model_name='case',
            name='case_unweighed',
        ),
        migrations.AddField(
            model_name='account',
            name='muted_until',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='account',
            name='suspended_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='account',
            name='suspended_until',
            field=models.DateTimeField(blank=True, help_text='Empty: without an end.', null=True),
        ),
        migrations.AddField(
            model_name='appeal',
            name='due_at',
            field=models.DateTimeField(blank=True, help_text='When we mean to have answered.', null=True),
        ),
        migrations.AddField(
            model_name='appeal',
            name='report',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='appeals', to='moderation.report'),
        ),
        migrations.AddField(
            model_name='appeal',
            name='side',
            field=models.CharField(choices=[('creator', 'The creator'), ('reporter', 'A reporter')], default='creator', max_length=10),
        ),
        migrations.AddField(
            model_name='bankentry',
            name='decisions',
            field=models.ManyToManyField(blank=True, related_name='bank_entries', to='moderation.decision'),
        ),
        migrations.AddField(
            model_name='bankentry',
            name='is_imported',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='decision',
            name='appeal',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='outcomes', to='moderation.appeal'),
        ),
        migrations.AddField(
            model_name='decision',
            name='bulk',
            field=models.CharField(blank=True, db_index=True, max_length=10),
        ),
        migrations.AddField(
            model_name='decision',
            name='chain',
            field=models.CharField(blank=True, db_index=True, max_length=10),
        ),
        migrations.AddField(
            model_name='decision',
            name='ground',
            field=models.CharField(choices=[('policy', "The house's policy"), ('law', 'The law')], default='policy', max_length=10),
        ),
        migrations.AddField(
            model_name='decision',
            name='label',
            field=models.CharField(blank=True, help_text='The words shown on the page.', max_length=200),
        ),
        migrations.AddField(
            model_name='decision',
            name='legal_ground',
            field=models.CharField(blank=True, help_text='The law, or the order and who gave it.', max_length=500),
        ),
        migrations.AddField(
            model_name='decision',
            name='message',
            field=models.TextField(default=''),
        ),
        migrations.AddField(
            model_name='decision',
            name='needs_second_person',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='decision',
            name='overrides',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='overridden_by', to='moderation.decision'),
        ),
        migrations.AddField(
            model_name='decision',
            name='preview',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='decisions', to='moderation.previewimage'),
        ),
        migrations.AddField(
            model_name='decision',
            name='previous_state',
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name='decision',
            name='source',
            field=models.CharField(choices=[('person', 'A person'), ('confirmed', "A machine's proposal, confirmed by a person"), ('order', 'A legal order')], default='person', max_length=10),
        ),
        migrations.AddField(
            model_name='decision',
            name='territories',
            field=models.JSONField(blank=True, default=list, help_text='Countries (ISO 3166-1 alpha-2); empty: everywhere.'),
        ),
        migrations.AddField(
            model_name='decision',
            name='until',
            field=models.DateTimeField(blank=True, help_text='Empty: without an end.', null=True),
        ),
        migrations.AddField(
            model_name='modelfile',
            name='purged_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='downloads',
            field=models.PositiveBigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='isolated_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='label',
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='withdrawn_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='previewimage',
            name='is_disabled',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='previewimage',
            name='purged_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='uploadedmodel',
            name='removed_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name='account',
            name='role',
            field=models.CharField(choices=[('creator', 'Creator'), ('moderator', 'Moderator'), ('senior_moderator', 'Senior moderator'), ('policy_lead', 'Policy lead'), ('child_safety', 'Child-safety specialist'), ('admin', 'Admin')], default='creator', max_length=20),
        ),
        migrations.AlterField(
            model_name='appeal',
            name='appellant',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='appeals', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AlterField(
            model_name='appeal',
            name='decision',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='appeals', to='moderation.decision'),
        ),
        migrations.AlterField(
            model_name='appeal',
            name='state',
            field=models.CharField(choices=[('open', 'Waiting for another moderator'), ('upheld', 'Decision upheld'), ('overturned', 'Decision overturned'), ('modified', 'Decision replaced by a milder one'), ('remanded', 'Sent back to be decided anew'), ('moot', 'Decision was taken back before an answer')], default='open', max_length=10),
        ),
        migrations.AlterField(
            model_name='case',
            name='source',
            field=models.CharField(choices=[('triage', "a probe's finding"), ('report', 'a report'), ('appeal', 'an appeal that was sent back')], max_length=10),
        ),
        migrations.AlterField(
            model_name='case',
            name='state',
            field=models.CharField(choices=[('queued', 'Waiting for a moderator'), ('claimed', 'With a moderator'), ('asked', 'Waiting for the creator'), ('escalated', 'Waiting for a senior moderator'), ('confirm', 'Decided, waiting for a second person'), ('decided', 'Decided'), ('appealed', 'Appealed, waiting for another moderator'), ('hearing', 'Appeal with a moderator'), ('reconfirm', 'Appeal answered, waiting for a second person'), ('closed', 'Closed')], default='queued', max_length=10),
        ),
        migrations.AlterField(
            model_name='decision',
            name='action',
            field=models.CharField(choices=[('approve', 'Approve'), ('dismiss', 'Dismiss the reports'), ('label', 'Label'), ('age_restrict', 'Age-restrict'), ('geo_restrict', 'Restrict by country'), ('disable_preview', 'Disable a preview'), ('limit', 'Limit'), ('remove', 'Remove'), ('remove_model', 'Remove the whole model'), ('strike', 'Strike'), ('mute', 'Mute the account'), ('suspend', 'Suspend the account'), ('child_safety', 'Escalate to child safety'), ('law', 'Escalate to law enforcement'), ('reverse', 'Take a decision back')], max_length=20),
        ),
        migrations.AlterField(
            model_name='decision',
            name='new_visibility',
            field=models.CharField(choices=[('draft', 'Draft'), ('quarantined', 'Quarantined'), ('published', 'Published'), ('age_restricted', 'Age-restricted'), ('limited', 'Limited'), ('removed', 'Removed'), ('withdrawn', 'Taken down by its creator')], max_length=20),
        ),
        migrations.AlterField(
            model_name='decision',
            name='previous_visibility',
            field=models.CharField(choices=[('draft', 'Draft'), ('quarantined', 'Quarantined'), ('published', 'Published'), ('age_restricted', 'Age-restricted'), ('limited', 'Limited'), ('removed', 'Removed'), ('withdrawn', 'Taken down by its creator')], max_length=20),
        ),
        migrations.AlterField(
            model_name='modelversion',
            name='visibility',
            field=models.CharField(choices=[('draft', 'Draft'), ('quarantined', 'Quarantined'), ('published', 'Published'), ('age_restricted', 'Age-restricted'), ('limited', 'Limited'), ('removed', 'Removed'), ('withdrawn', 'Taken down by its creator')], default='draft', max_length=20),
        ),
        migrations.AddIndex(
            model_name='case',
            index=models.Index(condition=models.Q(('state__in', ['appealed', 'asked', 'claimed', 'confirm', 'escalated', 'hearing', 'queued', 'reconfirm'])), fields=['turn_at', 'id'], name='case_listed'),
        ),
        migrations.AddIndex(
            model_name='case',
            index=models.Index(condition=models.Q(('state__in', ['appealed', 'asked', 'claimed', 'confirm', 'escalated', 'hearing', 'queued', 'reconfirm'])), fields=['due_at'], name='case_due'),
        ),
        migrations.AddIndex(
            model_name='case',
            index=models.Index(condition=models.Q(('state__in', ['appealed', 'asked', 'claimed', 'confirm', 'escalated', 'hearing', 'queued', 'reconfirm']), ('weighed_at__isnull', True)), fields=['opened_at'], name='case_unweighed'),
        ),
        migrations.AddIndex(
            model_name='decision',
            index=models.Index(condition=models.Q(('action__in', ['mute', 'strike', 'suspend'])), fields=['creator', '-decided_at'], name='decision_about_account'),
        ),
        migrations.AddIndex(
            model_name='decision',
            index=models.Index(condition=models.Q(('until__isnull', False)), fields=['until'], name='decision_until'),
        ),
        migrations.AddConstraint(
            model_name='account',
            constraint=models.CheckConstraint(condition=models.Q(('role__in', ['creator', 'moderator', 'senior_moderator', 'policy_lead', 'child_safety', 'admin'])), name='account_role'),
        ),
        migrations.AddConstraint(
            model_name='appeal',
            constraint=models.CheckConstraint(condition=models.Q(('answered_by__isnull', True), ('appellant__isnull', True), models.Q(('answered_by', models.F('appellant')), _negated=True), _connector='OR'), name='appeal_not_answered_by_appellant'),
        ),
        migrations.AddConstraint(
            model_name='appeal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('answered_by__isnull', True), ('state', 'open')), models.Q(('answered_at__isnull', False), ('answered_by__isnull', True), ('state', 'moot')), models.Q(models.Q(('state__in', ['open', 'moot']), _negated=True), ('answered_at__isnull', False), ('answered_by__isnull', False), models.Q(('answer', ''), _negated=True)), _connector='OR'), name='appeal_answered_by_a_person_with_reasons'),
        ),
        migrations.AddConstraint(
            model_name='appeal',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('appellant__isnull', False), ('report__isnull', True), ('side', 'creator')), models.Q(('report__isnull', False), ('side', 'reporter')), _connector='OR'), name='appeal_by_creator_or_reporter'),
        ),
        migrations.AddConstraint(
            model_name='appeal',
            constraint=models.UniqueConstraint(condition=models.Q(('appellant__isnull', False)), fields=('decision', 'appellant'), name='appeal_once_per_person_and_decision'),
        ),
        migrations.AddConstraint(
            model_name='appeal',
            constraint=models.UniqueConstraint(condition=models.Q(('report__isnull', False)), fields=('decision', 'report'), name='appeal_once_per_report_and_decision'),
        ),
        migrations.AddConstraint(
            model_name='case',
            constraint=models.UniqueConstraint(condition=models.Q(('state__in', ['asked', 'claimed', 'confirm', 'escalated', 'queued'])), fields=('version',), name='case_one_open_per_version'),
        ),
        migrations.AddConstraint(
            model_name='decision',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('action__in', ('label', 'age_restrict', 'geo_restrict', 'disable_preview', 'limit', 'remove', 'remove_model', 'strike', 'mute', 'suspend', 'child_safety')), _negated=True), models.Q(models.Q(('clauses', []), _negated=True), ('appeal_until__isnull', False)), _connector='OR'), name='decision_restriction_has_rule_and_way_back'),
        ),
        migrations.AddConstraint(
            model_name='decision',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('ground', 'policy'), ('source__in', ['person', 'confirmed'])), models.Q(('legal_ground', ''), _negated=True), _connector='OR'), name='decision_by_law_names_it'),
        ),
        migrations.AddConstraint(
            model_name='decision',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('action', 'reverse'), _negated=True), ('overrides__isnull', False), _connector='OR'), name='decision_reversal_names_what_it_reverses'),
        ),
        migrations.AddConstraint(
            model_name='decision',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('action', 'label'), _negated=True), models.Q(('label', ''), _negated=True), _connector='OR'), name='decision_label_has_words'),
        ),
        migrations.AddConstraint(
            model_name='decision',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('action', 'geo_restrict'), _negated=True), models.Q(('territories', []), _negated=True), _connector='OR'), name='decision_by_country_names_countries'),
        ),
        migrations.AddConstraint(
            model_name='decision',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('action', 'disable_preview'), _negated=True), ('preview__isnull', False), _connector='OR'), name='decision_on_preview_names_it'),
        ),
        migrations.AddConstraint(
            model_name='modelversion',
            constraint=models.CheckConstraint(condition=models.Q(('visibility__in', ['draft', 'quarantined', 'published', 'age_restricted', 'limited', 'removed', 'withdrawn'])), name='version_visibility'),
        ),
        migrations.AddField(
            model_name='appealfile',
            name='appeal',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='files', to='moderation.appeal'),
        ),
        migrations.AddField(
            model_name='appealmessage',
            name='appeal',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='moderation.appeal'),
        ),
        migrations.AddField(
            model_name='appealmessage',
            name='author',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='childsafetyrecord',
            name='decision',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='moderation.decision'),
        ),
        migrations.AddField(
            model_name='childsafetyrecord',
            name='sent_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='childsafetyrecord',
            name='version',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='child_safety', to='moderation.modelversion'),
        ),
        migrations.AddField(
            model_name='cleareddigest',
            name='decision',
            field=models.ForeignKey(help_text='Who cleared it.', on_delete=django.db.models.deletion.PROTECT, related_name='cleared', to='moderation.decision'),
        ),
        migrations.AddField(
            model_name='cleareddigest',
            name='policy',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='moderation.policy'),
        ),
        migrations.AddField(
            model_name='countryblock',
            name='version',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='country_blocks', to='moderation.modelversion'),
        ),
        migrations.AddField(
            model_name='effect',
            name='decided_by',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='effect',
            name='decision',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='effect', to='moderation.decision'),
        ),
        migrations.AddField(
            model_name='effect',
            name='ended_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='effect',
            name='second_person',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='confirmed_effects', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='legalhold',
            name='placed_by',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='legalhold',
            name='released_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='legalhold',
            name='version',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='holds', to='moderation.modelversion'),
        ),
        migrations.AddField(
            model_name='statementofreasons',
            name='decision',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='statement', to='moderation.decision'),
        ),
        migrations.AddField(
            model_name='statementofreasons',
            name='recipient',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='statements', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='strike',
            name='account',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='strikes', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='strike',
            name='decision',
            field=models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='strike', to='moderation.decision'),
        ),
        migrations.AddField(
            model_name='strike',
            name='voided_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='voided_strikes', to='moderation.decision'),
        ),
        migrations.AddConstraint(
            model_name='appealmessage',
            constraint=models.CheckConstraint(condition=models.Q(('text', ''), _negated=True), name='appeal_message_has_words'),
        ),
        migrations.AddConstraint(
            model_name='appealmessage',
            constraint=models.CheckConstraint(condition=models.Q(('from_team', False), ('author__isnull', False), _connector='OR'), name='appeal_message_of_team_has_author'),
        ),
        migrations.AddConstraint(
            model_name='childsafetyrecord',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('sent_at__isnull', True), ('sent_by__isnull', True)), models.Q(('sent_at__isnull', False), ('sent_by__isnull', False), models.Q(('authority', ''), _negated=True), models.Q(('reference', ''), _negated=True)), _connector='OR'), name='child_safety_sent_by_a_person_to_an_authority'),
        ),
        migrations.AddConstraint(
            model_name='cleareddigest',
            constraint=models.UniqueConstraint(fields=('sha256', 'kind', 'policy', 'rule'), name='cleared_once'),
        ),
        migrations.AddConstraint(
            model_name='countryblock',
            constraint=models.UniqueConstraint(fields=('version', 'country'), name='country_blocked_once'),
        ),
        migrations.AddIndex(
            model_name='effect',
            index=models.Index(condition=models.Q(('state', 'due')), fields=['due_at'], name='effect_due'),
        ),
        migrations.AddIndex(
            model_name='effect',
            index=models.Index(condition=models.Q(('state', 'held')), fields=['id'], name='effect_held'),
        ),
        migrations.AddConstraint(
            model_name='effect',
            constraint=models.CheckConstraint(condition=models.Q(('second_person__isnull', True), models.Q(('second_person', models.F('decided_by')), _negated=True), _connector='OR'), name='effect_confirmed_by_another_person'),
        ),
        migrations.AddConstraint(
            model_name='effect',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('confirmed_at__isnull', True), ('second_person__isnull', True)), models.Q(('confirmed_at__isnull', False), ('second_person__isnull', False)), _connector='OR'), name='effect_confirmed_by_whom_and_when'),
        ),
        migrations.AddConstraint(
            model_name='effect',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'due'), _negated=True), ('due_at__isnull', False), _connector='OR'), name='effect_due_has_moment'),
        ),
        migrations.AddConstraint(
            model_name='legalhold',
            constraint=models.CheckConstraint(condition=models.Q(('reason', ''), _negated=True), name='hold_has_reason'),
        ),
        migrations.AddIndex(
            model_name='strike',
            index=models.Index(fields=['account', '-given_at'], name='strike_of_account'),
        ),
        migrations.AddConstraint(
            model_name='strike',
            constraint=models.CheckConstraint(condition=models.Q(('points__gt', 0)), name='strike_has_points'),
        ),
        migrations.AddConstraint(
            model_name='strike',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('voided_at__isnull', True), ('voided_by__isnull', True)), models.Q(('voided_at__isnull', False), ('voided_by__isnull', False)), _connector='OR'), name='strike_voided_by_a_decision'),
        ),
    ]
