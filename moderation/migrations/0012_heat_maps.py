"""Heat-maps that moderators ask for."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('moderation', '0011_decisions_in_force'),
    ]

    operations = [
        migrations.CreateModel(
            name='HeatMap',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('png', models.BinaryField(null=True)),
                ('error', models.TextField(blank=True)),
                ('asked_at', models.DateTimeField(auto_now_add=True)),
                ('woken_at', models.DateTimeField(help_text='When a worker was last told about it.')),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('finding', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='heat_map', to='moderation.finding')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('ended_at__isnull', True), ('error', ''), ('png__isnull', True)), models.Q(('ended_at__isnull', False), ('error', ''), ('png__isnull', False)), models.Q(('ended_at__isnull', False), ('png__isnull', True), models.Q(('error', ''), _negated=True)), _connector='OR'), name='heat_map_waits_or_is_drawn_or_failed')],
            },
        ),
    ]
