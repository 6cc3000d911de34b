"""The web entry. Refuses to start on settings that cannot work."""

import os

from django.core.checks import Tags
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()
call_command("check", tags=[Tags.security, Tags.compatibility])
