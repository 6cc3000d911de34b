"""A smaller copy of each preview, which machines look at, and hashes that are remembered."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("moderation", "0022_time_looked")]

    operations = [
        migrations.AddField(
            model_name="previewimage",
            name="small",
            field=models.FileField(blank=True, default="", max_length=200, upload_to=""),
            preserve_default=False,
        ),
        migrations.AlterField(
            model_name="embedding",
            name="kind",
            field=models.CharField(
                choices=[
                    ("picture", "the bytes of a picture"),
                    ("text", "a text in UTF-8"),
                    ("pdq", "the bytes of a picture, of which perceptual hashes were made"),
                ],
                max_length=10,
            ),
        ),
    ]
