"""The sentences of a statement of reasons, by language. Data only; ``statements`` chooses."""

from collections.abc import Mapping
from dataclasses import dataclass

from moderation.states import Action, Language, Visibility


@dataclass(frozen=True)
class StatementWords:
    """What a statement is said with. ``{}`` is filled in."""

    effects: Mapping[str, str]
    of_actions: Mapping[str, str]
    account: str
    preview: str
    everywhere: str
    reported: str
    ordered: str
    found_by_machine: str
    found_otherwise: str
    held_and_confirmed: str
    decided: str
    elsewhere: str
    held: str
    asked_for: str
    named_in_request: str
    copy_of_named: str
    by_clock: str
    clock: str
    objection: str


WORDS: Mapping[str, StatementWords] = {
    Language.ENGLISH: StatementWords(
        effects={
            Visibility.DRAFT: "Nobody but you can see it.",
            Visibility.QUARANTINED: "Nobody but you and the moderation team can see or download "
            "it.",
            Visibility.PUBLISHED: "It can be seen and downloaded by everybody.",
            Visibility.AGE_RESTRICTED: "It is shown only to people who say that they are adults.",
            Visibility.LIMITED: "It can be opened by its address, but it is not listed or "
            "recommended.",
            Visibility.REMOVED: "Nobody but you and the moderation team can see or download it.",
            Visibility.WITHDRAWN: "You have taken it down yourself.",
        },
        of_actions={
            Action.LABEL: "A label stands on its page: “{}”.",
            Action.GEO_RESTRICT: "It is not shown in: {}.",
            Action.DISABLE_PREVIEW: "One of its previews is no longer shown.",
            Action.REMOVE_MODEL: "Nobody but you and the moderation team can see or download any "
            "of its versions, and no new version of it can be submitted.",
            Action.STRIKE: "Your account has a strike. The page of your standing says what that "
            "means.",
            Action.MUTE: "You cannot submit models or report until then. What is published stays.",
            Action.SUSPEND: "You cannot upload, submit or report. What is published stays, and "
            "you can read and appeal.",
        },
        account="Your account “{}”",
        preview="Preview {} of {}",
        everywhere="every country",
        reported="Somebody reported it. You are not told who did.",
        ordered="A legal order named it; a person carried it out.",
        found_by_machine="An automated check pointed to it;",
        found_otherwise="It was not found by an automated check;",
        held_and_confirmed="a machine held it back under this rule, and a person looked at it and "
        "confirmed that it falls under it.",
        decided="a person looked at it and decided.",
        elsewhere="You may also turn to a certified out-of-court dispute settlement body (Article "
        "21 of Regulation (EU) 2022/2065) or to a court.",
        held="Nobody but you and the moderation team can see or download it until a person has "
        "decided.",
        asked_for="A person says that it shows them without their consent, and asks for it to be "
        "taken down. Two hours before the 48 hours for such a request were over, no person had "
        "decided.",
        named_in_request="The request named it. You are not told who asked.",
        copy_of_named="An automated comparison found it to be a copy of what the request named. "
        "You are not told who asked.",
        by_clock="A program hid it by the clock alone; a person has yet to look at it.",
        clock="a program, by the clock",
        objection="A person finds that the request is not borne out. Say what speaks against it: "
        "whoever decides reads it.",
    ),
    Language.GERMAN: StatementWords(
        effects={
            Visibility.DRAFT: "Nur Sie können es sehen.",
            Visibility.QUARANTINED: "Nur Sie und die Moderation können es sehen oder "
            "herunterladen.",
            Visibility.PUBLISHED: "Alle können es sehen und herunterladen.",
            Visibility.AGE_RESTRICTED: "Es wird nur Menschen gezeigt, die sagen, dass sie "
            "erwachsen sind.",
            Visibility.LIMITED: "Es ist unter seiner Adresse zu öffnen, wird aber nicht "
            "aufgelistet oder empfohlen.",
            Visibility.REMOVED: "Nur Sie und die Moderation können es sehen oder herunterladen.",
            Visibility.WITHDRAWN: "Sie haben es selbst zurückgezogen.",
        },
        of_actions={
            Action.LABEL: "Auf seiner Seite steht ein Hinweis: „{}“.",
            Action.GEO_RESTRICT: "In diesen Ländern wird es nicht gezeigt: {}.",
            Action.DISABLE_PREVIEW: "Eines seiner Vorschaubilder wird nicht mehr gezeigt.",
            Action.REMOVE_MODEL: "Nur Sie und die Moderation können seine Versionen sehen oder "
            "herunterladen, und es kann keine neue eingereicht werden.",
            Action.STRIKE: "Ihr Konto hat einen Strike. Was das heißt, steht auf der Seite zum "
            "Stand Ihres Kontos.",
            Action.MUTE: "Sie können bis dahin nichts einreichen oder melden. Was veröffentlicht "
            "ist, bleibt.",
            Action.SUSPEND: "Sie können nichts hochladen, einreichen oder melden. Was "
            "veröffentlicht ist, bleibt, und Sie können lesen und widersprechen.",
        },
        account="Ihr Konto „{}“",
        preview="Vorschaubild {} von {}",
        everywhere="jedem Land",
        reported="Jemand hat es gemeldet. Wer das war, erfahren Sie nicht.",
        ordered="Eine behördliche oder gerichtliche Anordnung nannte es; ein Mensch hat sie "
        "ausgeführt.",
        found_by_machine="Eine automatische Prüfung wies darauf hin;",
        found_otherwise="Es wurde nicht durch eine automatische Prüfung gefunden;",
        held_and_confirmed="eine Maschine hielt es nach dieser Regel zurück, und ein Mensch sah es "
        "sich an und bestätigte, dass es unter sie fällt.",
        decided="ein Mensch sah es sich an und entschied.",
        elsewhere="Sie können sich auch an eine zertifizierte außergerichtliche "
        "Streitbeilegungsstelle (Artikel 21 der Verordnung (EU) 2022/2065) oder an ein Gericht "
        "wenden.",
        held="Nur Sie und die Moderation können es sehen oder herunterladen, bis ein Mensch "
        "entschieden hat.",
        asked_for="Ein Mensch sagt, dass es ihn ohne seine Einwilligung zeigt, und bittet, es zu "
        "entfernen. Zwei Stunden vor dem Ende der 48 Stunden für eine solche Anfrage hatte noch "
        "kein Mensch entschieden.",
        named_in_request="Die Anfrage nannte es. Wer gefragt hat, erfahren Sie nicht.",
        copy_of_named="Ein automatischer Vergleich fand, dass es eine Kopie dessen ist, was die "
        "Anfrage nannte. Wer gefragt hat, erfahren Sie nicht.",
        by_clock="Ein Programm hat es allein nach der Uhr verborgen; ein Mensch hat es noch nicht "
        "angesehen.",
        clock="einem Programm, nach der Uhr",
        objection="Ein Mensch findet, dass die Anfrage nicht zutrifft. Sagen Sie, was dagegen "
        "spricht: Wer entscheidet, liest es.",
    ),
}
