"use strict";
// Keys for what can also be pressed. An element says with data-key what it does; the body says
// which key that is for this reader. Nothing fires while somebody types or holds another key.

const keyboard = (() => {
  const keys = () => JSON.parse(document.body.dataset.keys ?? "{}");
  const isTyping = (element) =>
    element.closest("input:not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable]") !== null;
  const isShown = (element) => element.checkVisibility?.() ?? element.offsetParent !== null;
  const dialog = () => document.getElementById("keys");

  function press(element) {
    const details = element.closest("details");
    if (details && element.tagName !== "SUMMARY") details.open = true;
    element.scrollIntoView({ block: "nearest" });
    if (element.matches("input[type=text], input[type=search], textarea, select")) {
      element.focus();
      element.select?.();
    } else if (element.tagName === "SUMMARY") {
      element.parentElement.open = true;
      (element.parentElement.querySelector("textarea, input:not([type=hidden])") ?? element).focus();
    } else {
      element.focus();
      element.click();
    }
  }

  // The rows, previews and findings that j and k go through.
  function step(by) {
    const stops = Array.from(document.querySelectorAll("[data-stop]")).filter(isShown);
    if (!stops.length) return;
    const at = stops.findIndex((stop) => stop.contains(document.activeElement) || stop.classList.contains("at"));
    const next = stops[Math.min(Math.max(at + by, 0), stops.length - 1)];
    for (const stop of stops) stop.classList.toggle("at", stop === next);
    const target = next.matches("a, button, [tabindex]") ? next : next.querySelector("a[data-open], a, button, input, summary");
    (target ?? next).focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }

  function find(name) {
    const here = document.querySelector("[data-stop].at") ?? document.activeElement?.closest?.("[data-stop]");
    const wanted = `[data-key="${name}"]`;
    const within = here?.querySelector(wanted);
    if (within) return within;
    return Array.from(document.querySelectorAll(wanted)).find((element) => isShown(element) || element.closest("details:not([open])"));
  }

  // Says that a key does nothing here, and for how long: long enough to be read.
  let silence;
  function hint(key) {
    const place = document.getElementById("key-hint");
    if (!place) return;
    clearTimeout(silence);
    place.textContent = key ? `“${key}” does nothing here. Press ${keys().help ?? "?"} for the keys.` : "";
    if (key) silence = setTimeout(hint, 5000);
  }

  // Whether the page leaves a key to us.
  const tell = (detail) => document.dispatchEvent(new CustomEvent("key", { detail, cancelable: true, bubbles: true }));

  // A key that is held down does once what it does, whatever page it led to; j and k go on.
  let done = "";
  document.addEventListener("keydown", (event) => {
    const name = Object.entries(keys()).find(([, key]) => key === event.key)?.[0];
    const goesOn = name === "following" || name === "preceding";
    if (event.repeat && !goesOn) {
      // Nor does it fill the field that it led into.
      if (event.key === done) event.preventDefault();
      return;
    }
    act(event, name);
    done = event.defaultPrevented && !goesOn ? event.key : "";
  });
  function act(event, name) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (event.key === "Escape" && isTyping(event.target)) {
      event.target.blur();
      return;
    }
    if (isTyping(event.target) || dialog()?.open) return;
    // Letters and signs; what scrolls or moves the focus is the browser's.
    const unknown = event.key.length === 1 && event.key !== " " ? event.key : "";
    hint("");
    if (/^[0-9]$/.test(event.key)) {
      const rule = document.querySelector(`[data-digit="${event.key}"]`);
      if (rule) {
        event.preventDefault();
        if (tell({ name: "rule", rule, event })) press(rule);
      } else {
        hint(unknown);
      }
      return;
    }
    if (!name) {
      hint(unknown);
      return;
    }
    if (name === "following" || name === "preceding") {
      event.preventDefault();
      step(name === "following" ? 1 : -1);
      return;
    }
    if (name === "help" && dialog()) {
      event.preventDefault();
      dialog().showModal();
      return;
    }
    if (!tell({ name, event })) {
      event.preventDefault();
      return;
    }
    const element = find(name);
    if (element) {
      event.preventDefault();
      press(element);
    } else {
      hint(unknown);
    }
  }
  return { press, find, step, keys };
})();
