"""The languages people are told things in: which template, and refusals in words.

A template in another language stands in ``templates/LANGUAGE/`` under the same name.
"""

from collections.abc import Mapping

from moderation.states import Language


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


# What the forms for reporters refuse, by code and field. Each code that ``reports`` and
# ``likeness`` raise stands here: a test compares the two.
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
        "too_many_models": "Eine Anfrage kann höchstens 50 Modelle nennen.",
        "unknown_model": "Eine der Adressen führt zu keinem veröffentlichten Modell. Prüfen Sie "
        "sie, oder lassen Sie sie weg.",
        "no_signature": "Unterschreiben Sie mit Ihrem Namen.",
        "no_statement": "Bestätigen Sie, dass Sie gezeigt werden (oder für die gezeigte Person "
        "handeln) und nicht zugestimmt haben.",
    }
}


def refusal_in(language: str, code: str, sentence: str) -> str:
    """Return what was refused in a language, or the English sentence where there is no other."""
    return REFUSALS.get(language, {}).get(code, sentence)
