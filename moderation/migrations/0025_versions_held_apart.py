"""Find what is held apart without reading every version."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('moderation', '0024_reasons_of_holds'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='modelversion',
            index=models.Index(condition=models.Q(('isolated_at__isnull', False)), fields=['isolated_at'], name='version_held_apart'),
        ),
    ]
