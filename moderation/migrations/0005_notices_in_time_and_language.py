"""Notices that wait for their moment, and the language each person is told things in."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('moderation', '0004_queue_order'),
    ]

    operations = [
        migrations.AddField(
            model_name='account',
            name='language',
            field=models.CharField(choices=[('en', 'English'), ('de', 'Deutsch')], default='en', help_text='In which language the person is told things.', max_length=5),
        ),
        migrations.AddField(
            model_name='notice',
            name='shown_from',
            field=models.DateTimeField(default=django.utils.timezone.now, help_text='Before this moment its reader sees nothing of it.'),
        ),
        migrations.AlterField(
            model_name='notice',
            name='not_before',
            field=models.DateTimeField(help_text='When the next attempt to send it may be made.'),
        ),
    ]
