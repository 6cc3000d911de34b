"use strict";
// Choosing another kind of report opens another form; what was written so far goes along. Without
// JavaScript it stays on the page before.
const KEPT = "weighhouse-report";
const written = document.querySelector("main form textarea[name=text]");
const kept = sessionStorage.getItem(KEPT);
sessionStorage.removeItem(KEPT);
if (written && kept && !written.value) written.value = kept;
document.querySelector(".lanes")?.addEventListener("click", (event) => {
  if (written?.value && event.target.closest("a")) sessionStorage.setItem(KEPT, written.value);
});
