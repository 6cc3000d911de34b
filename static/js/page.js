"use strict";
// What a page gains with JavaScript. Without it everything still works.

// Moments are written in UTC; show them in the reader's own time, with UTC at hand. In the words
// of the page where it is not in English, which the browser then need not know.
const language = document.documentElement.lang;
const words = language === "en" ? undefined : language;
const today = language === "de" ? "heute" : "today";
const didNotWork = language === "de" ? "Das ging nicht:" : "That did not work:";
const noAnswer = language === "de" ? "Der Server antwortet nicht." : "the server does not answer.";
const day = new Intl.DateTimeFormat(words, { dateStyle: "medium" });
const clock = new Intl.DateTimeFormat(words, { timeStyle: "short" });
function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.valueOf())) continue;
    time.title = time.textContent;
    const isToday = day.format(moment) === day.format(new Date());
    time.textContent = `${isToday ? today : day.format(moment)}, ${clock.format(moment)}`;
  }
}
localise(document);

// A second press on a slow connection must not send a form twice.
document.addEventListener("submit", (event) => {
  const form = event.target;
  // Whoever logs out leaves nothing that was typed behind.
  if (form.matches("[action$='/log-out/']")) sessionStorage.clear();
  if (!form.matches("form[data-once]")) return;
  if ("sent" in form.dataset) event.preventDefault();
  else form.dataset.sent = "";
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// After a refusal the reader's place is at what was refused.
document.querySelector("[aria-invalid], .alert[role=alert]")?.focus();

document.addEventListener("htmx:afterSwap", (event) => localise(event.target.parentNode ?? document));
// A fragment that was answered from elsewhere is the log-in page: the session has ended.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { requestPath, responsePath } = event.detail.pathInfo;
  if (responsePath && responsePath.split("?")[0] !== requestPath.split("?")[0]) {
    event.preventDefault();
    window.location.reload();
  }
});
// A fragment that is refused, or not answered at all, says so where it stands, until one is there.
function failed({ detail: { elt, xhr } }) {
  const page = new DOMParser().parseFromString(xhr.responseText, "text/html");
  const sentence = page.querySelector("[role=alert]")?.textContent.trim() ?? (xhr.status || noAnswer);
  const said = elt.querySelector(":scope > .failed") ?? document.createElement("p");
  said.className = "alert failed";
  said.setAttribute("role", "alert");
  said.textContent = `${didNotWork} ${sentence}`;
  elt.prepend(said);
  // Refused for good: what stands there is not so any more.
  if (xhr.status >= 400 && xhr.status < 500) elt.querySelector("[data-until]")?.remove();
}
document.addEventListener("htmx:responseError", failed);
document.addEventListener("htmx:sendError", failed);
