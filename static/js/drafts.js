"use strict";
// What is typed beside a case survives until the server says that it was sent.

const caseCode = () => document.querySelector("[data-case]")?.dataset.case ?? "";
const TYPED = ".rail textarea[name], .rail form.decide input[type=text][name]";
const kept = (field) => `draft:${caseCode()}:${field.id}`;

function keepDrafts() {
  for (const field of document.querySelectorAll(TYPED)) {
    const before = sessionStorage.getItem(kept(field));
    if (before) field.value = before;
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
  sessionStorage.setItem(kept(field), field.value);
});
document.addEventListener("submit", (event) => {
  const fields = Array.from(event.target.querySelectorAll(TYPED), kept);
  if (fields.length) sessionStorage.setItem("sent", JSON.stringify({ code: caseCode(), fields }));
});
// A log-in page, a refusal or a broken connection confirms nothing.
function forgetSent() {
  const { code, fields } = JSON.parse(sessionStorage.getItem("sent") ?? "{}");
  if (!code || !document.querySelector(`.messages [data-sent="${code}"]`)) return;
  for (const name of fields) sessionStorage.removeItem(name);
  sessionStorage.removeItem("sent");
}
forgetSent();
