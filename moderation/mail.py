"""Letters in the terminal, for a house that runs without a mail server."""

from django.core.mail import EmailMessage
from django.core.mail.backends.console import EmailBackend as ConsoleBackend


class TerminalBackend(ConsoleBackend):
    """Writes what a person would read of a letter, without its HTML twin."""

    def write_message(self, message: EmailMessage) -> None:
        """Write recipients, subject and text."""
        to = ", ".join(message.to)
        self.stream.write(f"Letter to {to}: {message.subject}\n\n{message.body}\n")
