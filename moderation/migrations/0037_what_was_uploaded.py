"""What the header of a picture told at the door, since its copies are still JPEGs."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("moderation", "0036_uploads_by_change")]

    operations = [
        migrations.AddField(
            model_name="previewimage",
            name="uploaded",
            field=models.JSONField(blank=True, default=dict),
        ),
    ]
