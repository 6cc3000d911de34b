"use strict";
// The queue refreshes itself; what its reader has opened or is typing must survive that.
let opened = [];
let typed = "";
document.addEventListener("htmx:beforeRequest", (event) => {
  // Somebody is in the middle of a word or a menu: not now.
  if (event.target.id === "queue" && event.target.querySelector("input:focus, select:focus")) {
    event.preventDefault();
  }
});
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.target.id !== "queue") return;
  opened = [...event.target.querySelectorAll("details[open][id]")].map((details) => details.id);
  typed = document.getElementById("view-name")?.value ?? "";
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  opened = [];
  const name = document.getElementById("view-name");
  if (name && typed) name.value = typed;
  typed = "";
});
