"use strict";
// Weights are sent in parts with a progress bar, and go on where they stopped when the connection
// breaks or the page is opened again. Without JavaScript the form sends them whole.

const ATTEMPTS = 8;
const POLL_SECONDS = 3;
const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

class Refused extends Error {}
class Joining extends Refused {}

async function ask(address, options, token) {
  const headers = { "X-CSRFToken": token, ...(options.headers ?? {}) };
  const answer = await fetch(address, { credentials: "same-origin", ...options, headers });
  if (answer.redirected) throw new Refused("You have been logged out. Log in again, then go on.");
  const said = answer.headers.get("Content-Type")?.includes("json") ? await answer.json() : {};
  if (answer.ok) return said;
  if (said.code === "joining") throw new Joining(said.sentence);
  // A part that arrived cut off or changed is sent again; any other refusal stands.
  const again = answer.status >= 500 || ["part_incomplete", "part_digest_differs"].includes(said.code);
  if (again) throw new Error(said.sentence ?? `It answered ${answer.status}.`);
  throw new Refused(said.sentence ?? `It answered ${answer.status}.`);
}

async function patiently(work, tell) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Refused || attempt === ATTEMPTS) throw error;
      tell("The connection broke. Trying again …");
      await wait(Math.min(2 ** attempt * 0.25, 15));
    }
  }
}

async function digest(blob) {
  // Only over https or on this machine; the server computes its own in any case.
  if (!crypto.subtle) return "";
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

class Upload {
  constructor(form, address, file) {
    this.address = address;
    this.file = file;
    this.token = form.querySelector("[name=csrfmiddlewaretoken]").value;
    this.row = document.createElement("li");
    this.name = document.createElement("p");
    this.name.className = "filename";
    this.name.textContent = file.name;
    this.bar = document.createElement("progress");
    this.bar.max = file.size;
    this.bar.setAttribute("aria-label", `Progress of ${file.name}`);
    this.said = document.createElement("p");
    this.said.className = "soft";
    this.row.append(this.name, this.bar, this.said);
  }

  tell(text) {
    this.said.textContent = text;
  }

  async send() {
    // What was changed since is another file, also of the same name and size.
    const { name, size, lastModified } = this.file;
    const body = JSON.stringify({ name, size, modified: Math.max(0, lastModified) });
    const begin = () => ask(this.address, { method: "POST", body }, this.token);
    let upload = await patiently(begin, (text) => this.tell(text));
    const address = new URL(`../../uploads/${upload.code}/`, new URL(this.address, location.href)).href;
    const done = new Set(upload.have);
    let sent = done.size * upload.part_size;
    for (let number = 1; number <= upload.parts; number += 1) {
      if (done.has(number)) continue;
      const part = this.file.slice((number - 1) * upload.part_size, number * upload.part_size);
      const bucket = Object.keys(upload.addresses).length > 0;
      if (bucket && !(number in upload.addresses)) upload = await ask(address, {}, this.token);
      await patiently(async () => {
        if (bucket) {
          const answer = await fetch(upload.addresses[number], { method: "PUT", body: part });
          if (answer.status === 403) upload = await ask(address, {}, this.token);
          if (!answer.ok) throw new Error(`It answered ${answer.status}.`);
          return;
        }
        const headers = { "Content-Type": "application/octet-stream", "X-Content-SHA256": await digest(part) };
        await ask(`${address}parts/${number}/`, { method: "PUT", body: part, headers }, this.token);
      }, (text) => this.tell(text));
      sent += part.size;
      this.bar.value = Math.min(sent, this.file.size);
      this.tell(`${Math.floor((this.bar.value / this.file.size) * 100)} % of ${(this.file.size / 1048576).toFixed(1)} MB`);
    }
    this.bar.value = this.file.size;
    await this.complete(address);
    this.tell("Added.");
  }

  // A large file is put together for longer than a proxy lets a request wait: then its progress is asked for.
  async complete(address) {
    const tell = (text) => this.tell(text);
    for (;;) {
      this.tell("Reading the file …");
      try {
        return await patiently(() => ask(`${address}complete/`, { method: "POST" }, this.token), tell);
      } catch (error) {
        if (!(error instanceof Joining)) throw error;
      }
      while ((await patiently(() => ask(address, {}, this.token), tell)).state === "joining") {
        this.tell("Reading the file …");
        await wait(POLL_SECONDS);
      }
    }
  }
}

for (const place of document.querySelectorAll("[data-upload]")) {
  const input = place.querySelector("input[type=file]");
  const list = place.querySelector(".uploading");
  const form = input.form;
  // Whichever button is pressed: the weights go first, then the form with everything else.
  form.addEventListener("submit", async (event) => {
    if (!input.files.length) return;
    event.preventDefault();
    const buttons = Array.from(form.elements).filter((element) => element.type === "submit");
    const uploads = Array.from(input.files, (file) => new Upload(form, place.dataset.upload, file));
    list.replaceChildren(...uploads.map((upload) => upload.row));
    list.hidden = false;
    for (const button of buttons) button.disabled = true;
    const leaving = (unload) => unload.preventDefault();
    window.addEventListener("beforeunload", leaving);
    let refused = 0;
    for (const upload of uploads) {
      try {
        await upload.send();
      } catch (error) {
        refused += 1;
        upload.row.classList.add("refused");
        upload.tell(error instanceof Refused ? error.message : "The connection is gone. Choose the file again to go on where it stopped.");
      }
    }
    window.removeEventListener("beforeunload", leaving);
    for (const button of buttons) button.disabled = false;
    delete form.dataset.sent;
    // What has arrived is not sent a second time with the form.
    input.value = "";
    if (!refused) form.requestSubmit(event.submitter);
  });
}
