from django.apps.registry import Apps
from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Exists, OuterRef


def keep_first(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Forget all looks but the first, where the constraint allows no more."""
    exposures = apps.get_model("moderation", "Exposure").objects
    same = {name: OuterRef(name) for name in ("account", "case", "rule")}
    earlier = exposures.filter(**same, pk__lt=OuterRef("pk"))
    exposures.filter(Exists(earlier)).delete()


class Migration(migrations.Migration):

    dependencies = [
        ('moderation', '0033_heads_and_their_prompts'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='exposure',
            name='exposure_once',
        ),
        migrations.RemoveIndex(
            model_name='exposure',
            name='exposure_of_account',
        ),
        migrations.AddIndex(
            model_name='exposure',
            index=models.Index(fields=['account', '-looked_until'], name='exposure_of_account'),
        ),
        migrations.AddIndex(
            model_name='exposure',
            index=models.Index(fields=['account', 'case', '-seen_at'], name='exposure_to_case'),
        ),
        migrations.RunPython(migrations.RunPython.noop, keep_first),
    ]
