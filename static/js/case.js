"use strict";
// The page of a case: a message is composed from what is ticked, and the next case is fetched
// while this one is being read. What is typed survives by drafts.js.

const decideForm = () => document.querySelector("form.decide[data-compose]");

// --- The message -----------------------------------------------------------------------------
function compose() {
  const form = decideForm();
  const action = form?.elements.action.value;
  if (!action) return;
  const { facts, message } = form.elements;
  // Neither accuses anybody.
  const accuses = !["approve", "dismiss"].includes(action);
  const ticked = accuses ? Array.from(form.querySelectorAll("[name=rules]:checked")) : [];
  const of = (part) => ticked.map((rule) => rule.dataset[part]).filter(Boolean);
  if (!("typed" in facts.dataset)) facts.value = accuses ? of("sentence").join("\n") : form.dataset.compose;
  if (!("typed" in message.dataset)) message.value = of("advice").join("\n\n");
}
function choose(action) {
  const form = decideForm();
  const choice = form?.querySelector(`[name=action][value="${action}"]`);
  if (!choice) return false;
  choice.checked = true;
  choice.dispatchEvent(new Event("change", { bubbles: true }));
  compose();
  const submit = form.querySelector("[name=then][value=next]");
  const rule = form.querySelector("[name=rules]:checked");
  // What is missing comes next: a rule, then words, then the button.
  if (action !== "approve" && !rule) (form.querySelector("[data-digit]") ?? form.elements.rules[0])?.focus();
  else (form.elements.facts.value ? submit : form.elements.facts).focus();
  return true;
}
document.addEventListener("change", (event) => {
  if (!event.target.closest("form.decide[data-compose]")) return;
  if (event.target.name === "action") named = null;
  compose();
});
// After "restrict" and until the action, digits say under which rules, whatever was ticked before:
// the first alone, those after it as well.
let named = null;
function restrict() {
  const first = decideForm()?.querySelector("[data-digit]");
  if (!first) return false;
  named = [];
  first.focus();
  return true;
}
function nameRule(rule) {
  if (!named || rule.form !== decideForm()) return false;
  named.push(rule);
  for (const other of rule.form.querySelectorAll("[name=rules]")) other.checked = named.includes(other);
  const details = rule.closest("details");
  if (details) details.open = true;
  rule.focus();
  compose();
  return true;
}
document.addEventListener("key", (event) => {
  const { name } = event.detail;
  const done = {
    approve: () => choose("approve"),
    remove: () => choose("remove"),
    limit: () => choose("limit"),
    age_restrict: () => choose("age_restrict"),
    restrict,
    rule: () => nameRule(event.detail.rule),
    blur: () => toggle(".sharp"),
    grey: () => toggle(".colour"),
    one: () => toggle(".large"),
    peek: () => peek(event.detail.event.key),
  }[name]?.();
  if (done) event.preventDefault();
});
function toggle(which) {
  const box = document.querySelector(`.looks ${which}`);
  box?.click();
  return Boolean(box);
}
function peek(key) {
  const shot = document.querySelector(".shot.at") ?? document.querySelector(".shot");
  if (!shot) return false;
  shot.classList.add("peeked");
  const stop = (event) => {
    if (event.type === "keyup" && event.key !== key) return;
    shot.classList.remove("peeked");
    document.removeEventListener("keyup", stop);
    window.removeEventListener("blur", stop);
  };
  document.addEventListener("keyup", stop);
  window.addEventListener("blur", stop);
  return true;
}
// The same for a finger or a mouse on the button below a picture.
document.addEventListener("pointerdown", (event) => {
  const shot = event.target.closest?.(".peek")?.closest(".shot");
  if (!shot) return;
  shot.classList.add("peeked");
  const ends = ["pointerup", "pointercancel", "blur"];
  const stop = () => {
    shot.classList.remove("peeked");
    for (const end of ends) window.removeEventListener(end, stop);
  };
  for (const end of ends) window.addEventListener(end, stop);
});
document.addEventListener("contextmenu", (event) => {
  // A long press is a look, and no menu.
  if (event.target.closest?.(".peek")) event.preventDefault();
});

// --- The next case ---------------------------------------------------------------------------
// It is drawn for us, but not taken: only submitting takes it. If somebody else was faster, or
// something about it has changed, the server says so and the page is loaded in the usual way.
let fetched = null;
async function fetchNext() {
  const form = decideForm();
  fetched = null;
  if (!form?.dataset.next) return;
  try {
    const answer = await fetch(form.dataset.next, { headers: { "X-Peek": "1" } });
    if (answer.status !== 200) return;
    fetched = { code: answer.headers.get("X-Case"), stamp: answer.headers.get("X-Case-Stamp"), html: await answer.text() };
  } catch {
    fetched = null;
  }
}
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form !== decideForm() || event.submitter?.value !== "next" || !fetched || !form.reportValidity()) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form, event.submitter));
  const headers = { "X-Fetched-Case": fetched.code, "X-Fetched-Stamp": fetched.stamp };
  let answer;
  try {
    // Not form.action: the form has a field of that name.
    answer = await fetch(form.getAttribute("action"), { method: "POST", body, headers });
  } catch {
    delete form.dataset.sent;
    HTMLFormElement.prototype.submit.call(form);
    return;
  }
  const show = (html, address) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    document.title = page.title;
    for (const part of ["main", ".messages"]) {
      const old = document.querySelector(part);
      const fresh = page.querySelector(part);
      if (old && fresh) old.replaceWith(fresh);
      else if (fresh) document.querySelector("main").before(fresh);
      else old?.remove();
    }
    history.pushState({}, "", address);
    htmx.process(document.querySelector("main"));
    localise(document);
    forgetSent();
    keepDrafts();
    begin();
    // Where the form of the last one stood is the end of this one.
    window.scrollTo(0, 0);
    document.querySelector("main").focus({ preventScroll: true });
  };
  if (answer.status === 200 && answer.headers.get("X-Use-Fetched")) {
    const message = await answer.text();
    show(fetched.html, answer.headers.get("X-Use-Fetched"));
    document.querySelector(".messages")?.remove();
    const after = new DOMParser().parseFromString(message, "text/html");
    const said = after.querySelector(".messages");
    if (said) document.querySelector("main").before(said);
    // What was drawn ahead could not know that there would be something to undo.
    document.querySelector(".undo")?.remove();
    const undo = after.querySelector(".undo");
    if (undo) document.querySelector(".case-head").after(undo);
    forgetSent();
    countDown();
  } else if (answer.headers.get("X-Go") || answer.redirected) {
    // Another page, or the log-in page: with all that belongs to it.
    location.assign(answer.headers.get("X-Go") ?? answer.url);
  } else {
    show(await answer.text(), location.href);
    document.querySelector("[aria-invalid], .alert[role=alert]")?.focus();
  }
});
// A link to something that is folded away.
function unfold() {
  const wanted = location.hash && document.getElementById(location.hash.slice(1));
  const folded = wanted && wanted.closest("details:not([open])");
  if (!folded) return;
  folded.open = true;
  wanted.scrollIntoView({ block: "center" });
}
unfold();
window.addEventListener("hashchange", unfold);
// A link to something in a part that was only just fetched.
document.addEventListener("htmx:afterSwap", () => {
  const wanted = location.hash && document.getElementById(location.hash.slice(1));
  if (wanted && !wanted.dataset.found) {
    wanted.dataset.found = "";
    wanted.scrollIntoView({ block: "center" });
  }
});
window.addEventListener("popstate", () => location.reload());

function begin() {
  fetched = null;
  named = null;
  compose();
  countDown();
  if (decideForm()) setTimeout(fetchNext, 50);
}
begin();
