// The forms of /docs: each sends its request to this server and shows what comes, as text.

/** As much of an answer as is shown: events have no end. */
const SHOWN_MAX = 100_000;

const filled = (form, place) => [...form.querySelectorAll(`[data-in=${place}]`)].filter((input) => input.value !== "");

function request(form) {
  let path = form.dataset.path;
  for (const input of filled(form, "path")) path = path.replace(`{${input.name}}`, () => encodeURIComponent(input.value));
  const query = new URLSearchParams(filled(form, "query").map((input) => [input.name, input.value]));
  const headers = new Headers(filled(form, "header").map((input) => [input.name, input.value]));
  const password = document.getElementById("password").value;
  if (password !== "") headers.set("Authorization", `Bearer ${password}`);
  const text = form.querySelector("textarea");
  const body = text?.value ? text.value : undefined;
  if (body !== undefined) headers.set("Content-Type", text.dataset.media);
  const url = query.size > 0 ? `${path}?${query}` : path;
  return [url, { method: form.dataset.method, headers, body, credentials: "omit", redirect: "error" }];
}

async function show(response, shown) {
  shown.textContent = `${response.status} ${response.statusText}\n`;
  for (const [name, value] of response.headers) shown.textContent += `${name}: ${value}\n`;
  shown.textContent += "\n";
  if (!response.body) return;
  const decoder = new TextDecoder();
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    shown.textContent += decoder.decode(value, { stream: true });
    if (shown.textContent.length > SHOWN_MAX) {
      shown.textContent = `${shown.textContent.slice(0, SHOWN_MAX)}\n… and more`;
      return reader.cancel();
    }
  }
}

async function attempt(form) {
  const [shown, stop] = [form.querySelector("pre"), form.querySelector(".stop")];
  const abort = new AbortController();
  stop.onclick = () => abort.abort();
  shown.hidden = stop.hidden = false;
  shown.textContent = "…";
  try {
    const [url, options] = request(form);
    await show(await fetch(url, { ...options, signal: abort.signal }), shown);
  } catch (error) {
    shown.textContent += `\n${abort.signal.aborted ? "stopped" : error}`;
  } finally {
    stop.hidden = true;
  }
}

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form);
  });
}
