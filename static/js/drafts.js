"use strict";
// What is typed into a form survives until the server says that it was sent: in this tab, under
// the form's address and the field's name. Where a form says data-kept="sent" it is kept no longer
// than it is under way: from the press of its button until its page is there again.

const TYPED = "form[data-once] :is(textarea, input[type=text])[name]";
// Not form.action: a form may have a field of that name.
const addressOf = (form) => form.getAttribute("action") || location.pathname;
const kept = (field) => `draft:${addressOf(field.form)}:${field.name}`;

function keepDrafts() {
  for (const field of document.querySelectorAll(TYPED)) {
    const before = sessionStorage.getItem(kept(field));
    if (before) field.value = before;
    if (field.form.dataset.kept === "sent") sessionStorage.removeItem(kept(field));
    // What the server puts back after a refusal was somebody's words, too.
    if (!field.value) continue;
    field.dataset.typed = "";
    const details = field.closest("details");
    if (details) details.open = true;
  }
}
document.addEventListener("input", (event) => {
  const field = event.target;
  if (!field.matches(TYPED)) return;
  field.dataset.typed = "";
  if (field.form.dataset.kept !== "sent") sessionStorage.setItem(kept(field), field.value);
});
document.addEventListener("submit", (event) => {
  const form = event.target;
  const fields = Array.from(form.querySelectorAll(TYPED));
  if (!fields.length) return;
  if (form.dataset.kept === "sent") for (const field of fields) sessionStorage.setItem(kept(field), field.value);
  sessionStorage.setItem("sent", JSON.stringify({ address: addressOf(form), fields: fields.map(kept) }));
});
// The server names the case, or whatever else the form's address names. A log-in page, a refusal
// or a broken connection confirms nothing.
function forgetSent() {
  const { address, fields } = JSON.parse(sessionStorage.getItem("sent") ?? "{}");
  const confirmed = Array.from(document.querySelectorAll("[data-sent]:not(form)"), (place) => place.dataset.sent);
  if (!address?.split("/").some((part) => part && confirmed.includes(part))) return;
  for (const name of fields) sessionStorage.removeItem(name);
  sessionStorage.removeItem("sent");
}
forgetSent();
keepDrafts();
