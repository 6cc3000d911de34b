"use strict";
// How long a decision can still be undone; then the offer goes.
let ticking;
function countDown() {
  clearInterval(ticking);
  const undo = document.querySelector("[data-undo-until]");
  if (!undo) return;
  const until = new Date(undo.dataset.undoUntil).valueOf();
  const left = undo.querySelector(".left");
  const tick = () => {
    const seconds = Math.ceil((until - Date.now()) / 1000);
    if (seconds > 0) {
      left.textContent = `${seconds} s`;
      return;
    }
    clearInterval(ticking);
    undo.remove();
  };
  tick();
  ticking = setInterval(tick, 250);
}
countDown();
document.addEventListener("htmx:afterSwap", countDown);
