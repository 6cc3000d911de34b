"""Embeddings of pictures and prompts, so that nothing is embedded twice."""

import django.db.models.expressions
import django.db.models.functions.text
import django.db.models.lookups
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('moderation', '0006_api'),
    ]

    operations = [
        migrations.CreateModel(
            name='Embedding',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('picture', 'the bytes of a picture'), ('text', 'a text in UTF-8')], max_length=10)),
                ('sha256', models.CharField(max_length=64)),
                ('encoder', models.CharField(max_length=200)),
                ('revision', models.CharField(max_length=64)),
                ('dim', models.PositiveSmallIntegerField()),
                ('vector', models.BinaryField()),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('sha256', 'encoder', 'revision', 'kind'), name='embedding_once'), models.CheckConstraint(condition=models.Q(django.db.models.lookups.Exact(django.db.models.functions.text.Length('vector'), django.db.models.expressions.CombinedExpression(models.F('dim'), '*', models.Value(2))), ('dim__gt', 0)), name='embedding_has_dim_numbers')],
            },
        ),
    ]
