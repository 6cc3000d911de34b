"use strict";
// Asks the browser for a passkey where a form says so (data-passkey), and sends what it gives.
// webauthnJSON comes with allauth; it turns what browsers speak into JSON and back.

async function passkey(form) {
  const kept = document.getElementById("passkey-options");
  if (form.dataset.passkey === "log-in") {
    const answer = await fetch(form.action, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error("The server named no challenge.");
    return webauthnJSON.get((await answer.json()).request_options);
  }
  const options = JSON.parse(kept.textContent);
  if (form.dataset.passkey === "show") return webauthnJSON.get(options);
  const alone = form.elements.passwordless.checked;
  const wanted = options.publicKey.authenticatorSelection;
  wanted.residentKey = alone ? "required" : "discouraged";
  wanted.requireResidentKey = alone;
  if (alone) wanted.userVerification = "required";
  return webauthnJSON.create(options);
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const failed = form.querySelector("[data-passkey-failed]");
  form.hidden = !window.PublicKeyCredential;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    failed.hidden = true;
    try {
      form.elements.credential.value = JSON.stringify(await passkey(form));
    } catch {
      // Refused by the person, not there, or no longer wanted: which one, browsers do not say.
      failed.hidden = false;
      failed.focus();
      return;
    }
    form.submit();
  });
}
