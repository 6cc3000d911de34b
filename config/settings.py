"""Every setting, read from the environment. ``docs/settings.md`` explains each variable."""

import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from config.environment import Environment, bucket_origin, bucket_storage

env = Environment()

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Where things are kept ------------------------------------------------------------------
DATA_DIR = Path(env.str("WEIGHHOUSE_DATA", default=str(BASE_DIR / "var"))).resolve()
try:
    DATA_DIR.mkdir(parents=True, exist_ok=True)
except OSError as error:
    raise ImproperlyConfigured(
        f"WEIGHHOUSE_DATA names a folder that cannot be made ({error.strerror}): {DATA_DIR}."
    ) from error

# --- Security -------------------------------------------------------------------------------
DEBUG = env.bool("WEIGHHOUSE_DEBUG", default=False)
# `manage.py up` writes a key into the data folder; production sets the variable.
_key_file = DATA_DIR / "secret_key"
_kept_key = env.str("SECRET_KEY", default="") or (
    _key_file.read_text().strip() if _key_file.exists() else ""
)
# Without either, a key of this process alone: sessions then end with it, but none can be forged.
SECRET_KEY = _kept_key or secrets.token_urlsafe(48)
SECRET_KEY_IS_OF_THIS_PROCESS = not _kept_key
# Keys of before: what was signed or encrypted under one is still read, and nothing new is.
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
SITE_URL = env.str("SITE_URL", default=f"http://127.0.0.1:{env.str('PORT', default='8000')}")
_secure = SITE_URL.startswith("https://")
SESSION_COOKIE_SECURE = _secure
CSRF_COOKIE_SECURE = _secure
SECURE_HSTS_SECONDS = 365 * 24 * 60 * 60 if _secure else 0
# Behind a proxy that sets this header itself; never without one, because anybody can send it.
if env.bool("TRUST_FORWARDED_PROTO", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Whether the team, and whoever may enter the admin, needs a second factor. On one's own machine,
# where the demo's logins are printed, it would only be in the way.
REQUIRE_MFA = env.bool("REQUIRE_MFA", default=_secure)
# The proxy that ends TLS redirects http; a second redirect here would break its health checks.
# Whether subdomains and browsers' built-in lists join in is the choice of whoever owns the domain.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]
# How many proxies in front add to X-Forwarded-For; without any, nobody is believed.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

# How many requests one web process serves at once; as many again wait, and whoever comes then is
# answered 503 (moderation/overload.py).
WEB_AT_ONCE = env.int("WEB_AT_ONCE", default=8)

# --- Django ---------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "django_structlog",
    "csp",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "moderation",
    "triage",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    # Before anything that asks by what name, how much at once, or the database.
    "moderation.operations.middleware.WatchMiddleware",
    "moderation.overload.OverloadMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "moderation.logs.RequestLogMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "moderation.authentication.second_factor.SecondFactorMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "moderation.middleware.RefusalMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "moderation.context.site",
            ],
        },
    },
]
AUTH_USER_MODEL = "moderation.Account"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
    )
]
SESSION_ENGINE = "moderation.authentication.sessions"
AUTHENTICATION_BACKENDS = ["moderation.authentication.backends.AccountBackend"]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "moderation.authentication.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*", "password1*"]
# A letter asks to confirm the address; nobody is kept out until it was read.
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGIN_ON_PASSWORD_RESET = True
# Before an address or a second factor is changed, the password or the factor is asked for again.
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_REAUTHENTICATION_METHODS = {"password", "mfa"}
# Our own, in the database (moderation/throttle.py): allauth's count in the cache, where two
# processes that read at the same moment both find room, and where each has a cache of its own.
ACCOUNT_RATE_LIMITS = False
MFA_RATE_LIMITS = False
ACCOUNT_FORMS = {
    "change_password": "moderation.authentication.forms.NewPassword",
    "add_email": "moderation.authentication.forms.NewAddress",
    "reset_password": "moderation.authentication.forms.ForgottenPassword",
}
MFA_ADAPTER = "moderation.authentication.adapters.SecondFactorAdapter"
MFA_FORMS = {
    "authenticate": "moderation.authentication.forms.CodeAtLogIn",
    "reauthenticate": "moderation.authentication.forms.CodeAgain",
    "activate_totp": "moderation.authentication.forms.FirstCode",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
# Without TLS a browser makes passkeys for localhost alone.
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not _secure
MFA_TOTP_ISSUER = "Weighhouse"
# A clock that is half a minute off is no reason to keep anybody out.
MFA_TOTP_TOLERANCE = 1
# Otherwise whoever has a second factor could not change their address.
MFA_ALLOW_UNVERIFIED_EMAIL = True
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Database -------------------------------------------------------------------------------
env.address(
    "DATABASE_URL",
    schemes={"postgres": "PostgreSQL", "postgresql": "PostgreSQL", "sqlite": "SQLite"},
    example="postgres://user:password@host:5432/name",
)
DATABASES = {
    "default": env.db_url("DATABASE_URL")
    if env.str("DATABASE_URL", default="")
    else {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "weighhouse.sqlite3"}
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # A new connection for each request costs the server a process and the page some 10 ms.
    DATABASES["default"].setdefault("CONN_MAX_AGE", 60)
    DATABASES["default"].setdefault("CONN_HEALTH_CHECKS", True)
    # A server that does not answer at all must not hold a page for TCP's two minutes; nor may a
    # process that was frozen in the middle of a transaction, with its locks, hold everybody: who
    # waits gives up with a clean 503, and after two minutes PostgreSQL ends the frozen one.
    # What DATABASE_URL says itself, such as ?sslmode=require, is added and goes before.
    _asked: Any = DATABASES["default"].get("OPTIONS", {})
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,
        "options": "-c lock_timeout=20s -c idle_in_transaction_session_timeout=120s",
        **_asked,
    }
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # Writers queue up at BEGIN instead of failing halfway with "database is locked".
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        # FULL: a decision that was acknowledged survives a power cut. It costs about 2,500
        # instead of 25,000 commits a second, far above what one machine needs.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
    # A file, because tests with many threads cannot share an in-memory database.
    DATABASES["default"]["TEST"] = {"NAME": DATA_DIR / "test.sqlite3"}

# --- Files ----------------------------------------------------------------------------------
MEDIA_ROOT = DATA_DIR / "files"
STORAGE_URL = env.address(
    "STORAGE_URL",
    schemes={"file": "a folder", "s3": "a bucket"},
    example="s3://bucket/prefix?region=eu-west-1",
)
if STORAGE_URL.startswith("file:"):
    MEDIA_ROOT = Path(urlsplit(STORAGE_URL).path)
STORAGES = {
    "default": bucket_storage(STORAGE_URL)
    if STORAGE_URL.startswith("s3:")
    else {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
STATIC_URL = "/static/"
# An image brings its static files along; the data folder is a volume.
STATIC_ROOT = Path(env.str("STATIC_FOLDER", default=str(DATA_DIR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
# Where what is larger lies until it is stored. The system's own place for such files is often in
# memory, as in the containers.
FILE_UPLOAD_TEMP_DIR = DATA_DIR / "arriving"
FILE_UPLOAD_TEMP_DIR.mkdir(exist_ok=True)
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024
if STORAGE_URL.startswith("s3:"):
    # The browser sends the parts of large files straight to the bucket.
    CONTENT_SECURITY_POLICY["DIRECTIVES"]["connect-src"].append(bucket_origin(STORAGE_URL))
    # The same bucket, at the address that browsers reach it by.
    STORAGES["links"] = bucket_storage(STORAGE_URL, for_links=True)
# Asked at the door about every uploaded file. `moderation` may not import `triage`, so the
# composition root hands it over by name.
UPLOAD_INSPECTOR = "triage.inspection"
POLICY_INSPECTOR = "triage.policy_inspection"

# --- Mail -----------------------------------------------------------------------------------
env.address(
    "EMAIL_URL",
    schemes=dict.fromkeys(sorted(env.EMAIL_SCHEMES), "mail"),
    example="smtp+tls://user:password@host:587",
)
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
if EMAIL_CONFIG["EMAIL_BACKEND"] == "django.core.mail.backends.console.EmailBackend":
    EMAIL_BACKEND = "moderation.mail.TerminalBackend"
# A mail server that hangs must not hold a worker.
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Weighhouse <notices@localhost>")

# --- Celery ---------------------------------------------------------------------------------
# The row is the truth and a message only wakes somebody: that is why the file transport, which
# can lose a message when a worker dies, is good enough for one machine.
CELERY_BROKER_URL = (
    env.address(
        "REDIS_URL",
        schemes={"redis": "Redis", "rediss": "Redis over TLS", "filesystem": "a folder"},
        example="redis://host:6379/0",
    )
    or "filesystem://"
)
# After how long Redis hands out a message again that a worker took and never acknowledged. Longer
# than any task runs, so that it never comes twice to a busy worker; what a dead one held is found
# by its lease, not by this. Celery wants it in three places, or one of them keeps its own hour.
VISIBILITY_TIMEOUT = 2 * 60 * 60
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, object] = {
    "visibility_timeout": VISIBILITY_TIMEOUT,
    # A Redis that hangs must not hold a page, which would wait for ever. Redis itself answers a
    # worker that waits for messages within a second (kombu's brpop_timeout), so nobody who waits
    # for nothing is cut off.
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
}
CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = {"visibility_timeout": VISIBILITY_TIMEOUT}
CELERY_VISIBILITY_TIMEOUT = VISIBILITY_TIMEOUT
if CELERY_BROKER_URL == "filesystem://":
    _broker = DATA_DIR / "broker"
    for _folder in ("messages", "control"):
        (_broker / _folder).mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_TRANSPORT = "moderation.folder_transport:Transport"
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_broker / "messages"),
        "data_folder_out": str(_broker / "messages"),
        "control_folder": str(_broker / "control"),
        "polling_interval": 0.2,
    }
    # The file transport keeps no fan-out; these would only gather files nobody reads.
    CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# A dead broker must not hold up a page: the sweeper sends again what was not sent.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_ROUTES = {
    "triage.files": {"queue": "triage.cpu"},
    "triage.previews": {"queue": "triage.gpu"},
    "triage.heat_map": {"queue": "triage.gpu"},
    "moderation.notice_send": {"queue": "notices"},
    "moderation.webhook_send": {"queue": "webhooks"},
    "moderation.reference_fetch": {"queue": "files"},
    "moderation.files_publish": {"queue": "files"},
    "moderation.reports_tell": {"queue": "notices"},
    "moderation.likeness_sweep": {"queue": "beat"},
    "moderation.look_for_copies": {"queue": "beat"},
    "moderation.sweep": {"queue": "beat"},
    "moderation.purge": {"queue": "beat"},
}
SWEEP_SECONDS = env.float("SWEEP_SECONDS", default=2.0)
CELERY_BEAT_SCHEDULE = {
    # A sweep that was not run in time is worthless: the next one does the same work.
    "sweep": {
        "task": "moderation.sweep",
        "schedule": SWEEP_SECONDS,
        "options": {"expires": 30},
    },
    "copies": {
        "task": "moderation.look_for_copies",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "purge": {"task": "moderation.purge", "schedule": 24 * 3600, "options": {"expires": 3600}},
}

# --- The flow -------------------------------------------------------------------------------
LEASE_SECONDS = env.int("LEASE_SECONDS", default=120)
JOB_ATTEMPTS = 3
# How long a message may be under way before the sweeper sends another.
RESEND_SECONDS = env.int("RESEND_SECONDS", default=30)
# How long a worker that was told to end may finish its work; containers are killed after 30 s.
DRAIN_SECONDS = env.float("DRAIN_SECONDS", default=25.0)
# How many severe cases one person is given in a day and in an hour; 0 sets no limit. Our own
# careful choice: studies of moderators agree on limits and breaks, and on no number.
SEVERE_A_DAY = env.int("SEVERE_A_DAY", default=40)
SEVERE_AN_HOUR = env.int("SEVERE_AN_HOUR", default=12)
# And for how many minutes such a case may be open with its pictures.
SEVERE_MINUTES_A_DAY = env.int("SEVERE_MINUTES_A_DAY", default=60)
SEVERE_MINUTES_AN_HOUR = env.int("SEVERE_MINUTES_AN_HOUR", default=20)
# The share of the previews that pass which people are shown, to learn what is missed.
AUDIT_SHARE = env.float("AUDIT_SHARE", default=0.01)
# The share of the decisions that a second person answers blind (moderation/second_reviews.py).
SECOND_REVIEW_SHARE = env.float("SECOND_REVIEW_SHARE", default=0.02)
CLAIM_SECONDS = env.int("CLAIM_SECONDS", default=600)
# How long a decision can be undone: until then nobody is told and nothing becomes public.
UNDO_SECONDS = env.int("UNDO_SECONDS", default=10)
# What a second, different person confirms: "popular" is the removal of much downloaded models.
SECOND_PERSON_FOR = env.list(
    "SECOND_PERSON_FOR", default=["popular", "suspend", "child_safety", "overturn"]
)
POPULAR_DOWNLOADS = env.int("POPULAR_DOWNLOADS", default=1000)
# The header in which the proxy says from which country somebody comes, such as CF-IPCountry.
COUNTRY_HEADER = env.str("COUNTRY_HEADER", default="")
ENCODER = env.str("ENCODER", default="demo")
# How many cores one process may use to embed and to multiply matrices; 0: all there are. With
# several worker processes on one machine: cores ÷ processes, or their threads wait for each other.
ENCODER_THREADS = env.int("ENCODER_THREADS", default=0)
if ENCODER_THREADS > 0:
    # numpy's own threads. It reads these when it is imported, which is after the settings.
    for _library in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_library, str(ENCODER_THREADS))
# Pictures that one process embeds at once; a card wants more than a CPU.
ENCODER_BATCH = env.int("ENCODER_BATCH", default=32)
ENCODER_COMPILE = env.bool("ENCODER_COMPILE", default=False)
MAX_WEIGHTS_BYTES = env.int("MAX_WEIGHTS_BYTES", default=8 * 1024**3)
MAX_PREVIEW_BYTES = env.int("MAX_PREVIEW_BYTES", default=25 * 1024**2)
MAX_PREVIEWS = 20
MAX_FILES = 10
# Hosts on a private network that webhooks and file references may name all the same.
# In small letters, as the host of an address is compared.
OUTBOUND_PRIVATE_HOSTS = [host.lower() for host in env.list("OUTBOUND_PRIVATE_HOSTS", default=[])]

# What Prometheus shows to be let in to /metrics; without it there is no such page.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")

# One line a message for people, or one JSON object a line for machines; both carry the ids of the
# request, the task and the account, never a name, an address or what somebody wrote.
LOG_FORMAT = env.choice("LOG_FORMAT", among=("line", "json"), default="line")
LOG_LEVEL = env.choice(
    "LOG_LEVEL", among=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), default="INFO"
)
LOG_STEPS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]
DJANGO_STRUCTLOG_CELERY_ENABLED = True
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "structlog.stdlib.ProcessorFormatter",
            "foreign_pre_chain": [*LOG_STEPS, structlog.processors.format_exc_info],
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        },
        "line": {
            "()": "structlog.stdlib.ProcessorFormatter",
            "foreign_pre_chain": LOG_STEPS,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Plain: the tracebacks that rich draws show what was in every variable, which
                # gives secrets away and asks the database for querysets while it is down.
                structlog.dev.ConsoleRenderer(
                    colors=False,
                    pad_event_to=0,
                    exception_formatter=structlog.dev.plain_traceback,
                ),
            ],
        },
    },
    "filters": {"private_links": {"()": "moderation.logs.PrivateLinksFilter"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["private_links"],
            "formatter": "json" if LOG_FORMAT == "json" else "line",
        }
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    # On a terminal, a line for each request would hide what matters.
    "loggers": {
        "django_structlog": {"level": "INFO" if LOG_FORMAT == "json" else "WARNING"},
        # A sweep every two seconds is no news.
        "celery": {"level": "WARNING"},
    },
}
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *LOG_STEPS,
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
