"""The languages people are told things in: which template, and refusals in words.

A template in another language stands in ``templates/LANGUAGE/`` under the same name.
"""

from collections.abc import Mapping
from decimal import Decimal

from moderation.states import Action, Language


def templates_in(language: str, name: str) -> list[str]:
    """Return where a template stands in a language, and the English one behind it.

    A test holds that every one is there; if one were missing all the same, a letter in English is
    better than a decision that fails.
    """
    if language == Language.ENGLISH or language not in Language.values:
        return [name]
    return [f"{language}/{name}", name]


def known_language(*wishes: str) -> Language:
    """Return the first wish that is a language of ours, as in ``de-AT``; English without one."""
    for wish in wishes:
        primary = wish.lower().replace("_", "-").partition("-")[0]
        if primary in Language.values:
            return Language(primary)
    return Language.ENGLISH


# What the forms of reporters and appellants refuse, by code. Each code that the services behind
# them raise stands here: a test compares the two.
REFUSALS: Mapping[str, Mapping[str, str]] = {
    Language.GERMAN: {
        "not_published": "Nur was veröffentlicht ist, kann gemeldet werden.",
        "own_model": "Das ist Ihr eigenes Modell.",
        "no_text": "Sagen Sie in ein paar Worten, was nicht in Ordnung ist.",
        "text_too_long": "Der Text ist zu lang; 4.000 Zeichen sind das Höchste.",
        "no_rule": "Die geltenden Regeln enthalten diese Regel nicht.",
        "no_place": "Sagen Sie genau, wo es zu sehen ist: die Adresse der Seite oder des Bildes.",
        "no_name": "Nennen Sie Ihren Namen. Das Gesetz verlangt ihn für diese Meldung, außer wenn "
        "es um den Missbrauch von Kindern geht.",
        "no_email": "Nennen Sie eine E-Mail-Adresse. Das Gesetz verlangt sie für diese Meldung, "
        "außer wenn es um den Missbrauch von Kindern geht.",
        "no_good_faith": "Bestätigen Sie, dass Ihre Angaben nach bestem Wissen richtig und "
        "vollständig sind.",
        "bad_email": "Das ist keine E-Mail-Adresse.",
        "bad_link": "Ein Verweis beginnt mit https:// und ist höchstens 500 Zeichen lang; fünf "
        "sind das Höchste.",
        "too_much_evidence": "Höchstens drei Bilder von je 5 MB können mitgeschickt werden.",
        "bad_picture": "Eine der Dateien ist kein Bild, das gelesen werden kann.",
        "needs_account": "Um eine Kopie Ihrer Arbeit zu melden, melden Sie sich mit Ihrem Konto "
        "an.",
        "not_your_work": "Wählen Sie das eigene Modell aus, das kopiert wurde.",
        "already_reported": "Sie haben das schon gemeldet; Ihre Meldung wird geprüft.",
        "address_busy": "Mehrere Meldungen mit dieser Adresse werden schon geprüft. Lassen Sie "
        "die Adresse weg und behalten Sie die private Adresse der nächsten Seite.",
        "too_many": "Von hier kamen in kurzer Zeit viele Meldungen. Versuchen Sie es später noch "
        "einmal; was Sie geschickt haben, wird geprüft.",
        "target_busy": "Dieses Modell wurde schon oft gemeldet und wird geprüft. Melden Sie sich "
        "an, um trotzdem zu melden, oder versuchen Sie es später noch einmal.",
        "reporting_suspended": "Ihr Konto kann zurzeit nichts melden. Warum, bis wann und wie Sie "
        "widersprechen können, steht unter Ihren Mitteilungen.",
        "report_closed": "Diese Meldung ist abgeschlossen und kann nicht mehr geändert werden.",
        "no_models": "Nennen Sie mindestens eine Adresse eines Modells auf dieser Seite.",
        "too_many_changes": "Dieser Text wurde in kurzer Zeit oft geändert. Was zuletzt "
        "gespeichert wurde, liest ein Mensch; was Sie jetzt geschrieben haben, steht noch unten. "
        "Versuchen Sie es später noch einmal.",
        "too_many_models": "Eine Anfrage kann höchstens 50 Modelle nennen.",
        "unknown_model": "Eine der Adressen führt zu keinem veröffentlichten Modell. Prüfen Sie "
        "sie, oder lassen Sie sie weg.",
        "no_signature": "Unterschreiben Sie mit Ihrem Namen.",
        # Appeals.
        "no_appeal_text": "Sagen Sie in ein paar Worten, warum die Entscheidung geändert werden "
        "soll.",
        "appeal_too_long": "Ihr Widerspruch ist zu lang; 4.000 Zeichen sind das Höchste.",
        "no_message": "Schreiben Sie etwas.",
        "message_too_long": "Die Nachricht ist zu lang; 4.000 Zeichen sind das Höchste.",
        "too_many_files": "Höchstens fünf Dateien können mitgeschickt werden.",
        "empty_file": "Eine der Dateien ist leer.",
        "file_too_large": "Eine der Dateien ist größer als 5 MB.",
        "bad_file": "Eine der Dateien ist weder ein Bild (PNG, JPEG, WebP) noch ein PDF noch "
        "reiner Text.",
        "nothing_to_appeal": "Hier gibt es nichts, dem widersprochen werden könnte.",
        "not_in_force": "Diese Entscheidung ist nicht in Kraft.",
        "appeal_too_late": "Die Zeit für einen Widerspruch ist vorbei. Sie können sich weiterhin "
        "an eine zertifizierte außergerichtliche Streitbeilegungsstelle oder an ein Gericht "
        "wenden.",
        "already_overturned": "Es wurde inzwischen noch einmal angesehen; es ist nichts mehr "
        "übrig, dem widersprochen werden könnte.",
        "superseded": "Eine neuere Entscheidung ist an ihre Stelle getreten; widersprechen Sie "
        "jener.",
        "already_appealed": "Sie haben dieser Entscheidung schon widersprochen; es wird geprüft.",
        "address_appealed": "Jemand mit der E-Mail-Adresse dieser Meldung hat dieser Entscheidung "
        "schon widersprochen, und jeder Mensch kann das einmal tun. Lesen und schreiben Sie auf "
        "der Seite der anderen Meldung: Die Adresse steht in der Nachricht, die kam, als sie "
        "eintraf, oder unter den Mitteilungen des Kontos.",
        "already_answered": "Dieser Widerspruch wurde beantwortet.",
        "too_many_messages": "Zu diesem Widerspruch kamen in kurzer Zeit viele Nachrichten. Was "
        "Sie jetzt geschrieben haben, steht noch unten. Versuchen Sie es später noch einmal.",
        "already_withdrawn": "Sie haben diese Version schon zurückgezogen.",
        "no_objection": "Sagen Sie in ein paar Worten, was dagegen spricht.",
        "hold_over": "Die Uhr verbirgt es nicht mehr, oder Sie haben schon gesagt, was dagegen "
        "spricht.",
        "illegal_transition": "Das ist schon erledigt.",
        "no_statement": "Bestätigen Sie, dass Sie gezeigt werden (oder für die gezeigte Person "
        "handeln) und nicht zugestimmt haben.",
    }
}


def refusal_in(language: str, code: str, sentence: str) -> str:
    """Return what was refused in a language, or the English sentence where there is no other."""
    return REFUSALS.get(language, {}).get(code, sentence)


# What was done to an account or a model, as creators read it on their pages.
ACTIONS: Mapping[str, Mapping[str, str]] = {
    Language.GERMAN: {
        Action.APPROVE: "Hält die Regeln ein",
        Action.DISMISS: "Meldungen abgewiesen",
        Action.LABEL: "Mit einem Hinweis versehen",
        Action.AGE_RESTRICT: "Nur für Erwachsene",
        Action.GEO_RESTRICT: "In manchen Ländern nicht gezeigt",
        Action.DISABLE_PREVIEW: "Ein Vorschaubild nicht mehr gezeigt",
        Action.LIMIT: "Beschränkt",
        Action.REMOVE: "Entfernt",
        Action.REMOVE_MODEL: "Das ganze Modell entfernt",
        Action.STRIKE: "Strike",
        Action.MUTE: "Konto stummgeschaltet",
        Action.SUSPEND: "Konto gesperrt",
        Action.CHILD_SAFETY: "An den Kinderschutz gegeben",
        Action.REVERSE: "Zurückgenommen",
    }
}
# The steps of the ladder, by how many points they begin at.
STEPS: Mapping[str, Mapping[Decimal, str]] = {
    Language.GERMAN: {
        Decimal(1): "eine Verwarnung",
        Decimal(2): "drei Tage stumm",
        Decimal(4): "dreißig Tage gesperrt",
        Decimal(6): "ein Mensch sieht sich das ganze Konto an",
    }
}
