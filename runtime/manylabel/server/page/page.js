// The page at `/`: calls /v1/model, /v1/classify and /v1/explain; applies changed thresholds without another request.
// Texts and labels are only set as textContent; the Content-Security-Policy blocks anything that parses HTML.
"use strict";

const at = (id) => document.getElementById(id);
const state = { model: null, thresholds: {}, texts: [], results: [], chosen: 0, window: 0, took: 0 };
const rows = new Map(); // label -> elements of its row

function make(tag, properties = {}, ...children) {
  const { style = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, value);
  element.append(...children);
  return element;
}

const shown = (p) => (Number.isFinite(p) ? p.toFixed(2) : "–");
const percent = (p) => `${(100 * p).toFixed(2)}%`;
const plural = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
// Compares in float32, as the server does.
const applies = (label, p) => Math.fround(p) >= Math.fround(state.thresholds[label]);
const labelsOf = (result) =>
  Object.keys(result.probabilities)
    .filter((label) => applies(label, result.probabilities[label]))
    .sort((a, b) => result.probabilities[b] - result.probabilities[a]);
const bundled = () => Object.fromEntries(state.model.labels.map(({ name, threshold }) => [name, threshold]));
const changed = () => {
  const before = bundled();
  return Object.fromEntries(Object.entries(state.thresholds).filter(([label, p]) => p !== before[label]));
};

// Requests

async function ask(path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (at("key").value) headers["Authorization"] = `Bearer ${at("key").value}`;
  let response;
  try {
    const method = body === undefined ? "GET" : "POST";
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error("The server does not respond. Is it still running?");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  if (response.status === 401) askForKey();
  throw new Error(reason(response, answer));
}

function reason(response, answer) {
  const detail = answer && (answer.detail || answer.error || answer.title);
  const wait = response.headers.get("Retry-After");
  return [
    response.status === 401 ? "This server requires an API key." : typeof detail === "string" ? detail : `Status ${response.status}.`,
    wait ? `Try again in ${plural(Number(wait), "second")}.` : "",
  ].join(" ").trim();
}

function askForKey() {
  at("key-row").hidden = false;
  at("key").focus();
}

function typed() {
  const text = at("texts").value;
  if (document.querySelector("input[name=mode]:checked").value === "one") return text.trim() ? [text] : [];
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

async function classify() {
  const texts = typed();
  if (!texts.length) {
    at("texts").focus();
    return;
  }
  const started = performance.now();
  const { predictions: results } = await ask("v1/classify", { inputs: texts, windows: true });
  Object.assign(state, { texts, results, chosen: 0, window: 0, took: performance.now() - started });
  showAnswers();
}

// Labels of the selected text

function buildRows() {
  rows.clear();
  for (const { name: label } of state.model.labels) {
    const slider = make("input", { type: "range", min: 0, max: 1, step: 0.01, ariaLabel: `Threshold of ${label}` });
    const row = {
      slider,
      why: make("button", { type: "button", textContent: label, title: label, ariaLabel: `Why ${label}?`, disabled: true }),
      fill: make("span", { className: "fill" }),
      tick: make("span", { className: "tick", hidden: true }),
      window: make("button", { type: "button", className: "window", hidden: true }),
      probability: make("span", { className: "probability" }),
      limit: make("span", { className: "limit" }),
    };
    row.element = make(
      "li", {},
      make("span", { className: "name" }, make("span", {}, row.why), row.window),
      make("span", { className: "track" }, row.fill, row.tick, slider),
      make("span", { className: "numbers" }, row.probability, row.limit),
    );
    slider.addEventListener("input", () => {
      state.thresholds[label] = Number(slider.value);
      decide();
    });
    row.window.addEventListener("click", () => chooseWindow(row.best));
    row.why.addEventListener("click", () => run(() => explain(label)));
    rows.set(label, row);
  }
  at("labels").style.setProperty("--count", rows.size);
  at("labels").replaceChildren(...[...rows.values()].map((row) => row.element));
}

function decide() {
  const result = state.results[state.chosen];
  for (const [label, row] of rows) {
    const p = result ? result.probabilities[label] : NaN;
    const yes = applies(label, p);
    row.element.classList.toggle("applies", yes);
    row.why.disabled = !result;
    row.limit.textContent = `≥ ${shown(state.thresholds[label])}`;
    row.slider.value = state.thresholds[label];
    const verdict = result ? `, probability ${shown(p)}, ${yes ? "applies" : "does not apply"}` : "";
    row.slider.setAttribute("aria-valuetext", shown(state.thresholds[label]) + verdict);
  }
  const own = Object.keys(changed()).length;
  at("reset").hidden = own === 0;
  at("reset").textContent = `Reset ${plural(own, "threshold")}`;
  if (result) say(labelsOf(result));
  state.results.forEach((each, index) => chips(at("list").children[index].querySelector(".chips"), labelsOf(each)));
  showSnippet();
}

function say(labels) {
  at("applying").textContent = `${labels.length} of ${rows.size}`;
  const sentence = labels.length ? labels : ["no label applies"];
  chips(at("said"), sentence, labels.length ? "chip" : "quiet");
}

function chips(where, labels, className = "chip") {
  where.replaceChildren(...labels.map((label) => make("span", { className, textContent: label })).flatMap((chip) => [chip, " "]));
}

function showChosen() {
  closeWhy();
  const result = state.results[state.chosen];
  const windows = result.windows || [];
  const ordered = [...rows.keys()].sort((a, b) => result.probabilities[b] - result.probabilities[a]);
  for (const label of ordered) {
    const row = rows.get(label);
    row.probability.textContent = shown(result.probabilities[label]);
    row.fill.style.setProperty("--p", percent(result.probabilities[label]));
    row.best = windows.reduce((best, each, index) => (each.probabilities[label] > windows[best].probabilities[label] ? index : best), 0);
    row.window.hidden = windows.length < 2;
    row.window.textContent = row.best + 1;
    row.window.title = `${label}: the maximum is from window ${row.best + 1}`;
    row.window.ariaLabel = row.window.title;
    at("labels").append(row.element);
  }
  at("status").textContent = [
    state.texts.length > 1 ? plural(state.texts.length, "text") : plural(result.n_tokens, "token"),
    `${Math.round(state.took)} ms`,
  ].join(" · ");
  showWindows(result, windows);
  decide();
}

// List of texts

function showAnswers() {
  at("answers").hidden = state.texts.length < 2;
  at("list").replaceChildren(...state.texts.map((text, index) => {
    const result = state.results[index];
    const button = make(
      "button", { type: "button" },
      make("span", { className: "text", textContent: text.slice(0, 300) }),
      make("span", { className: "chips" }),
    );
    if (result.truncated) button.append(make("span", { className: "quiet", textContent: "truncated" }));
    button.addEventListener("click", () => choose(index));
    return make("li", {}, button);
  }));
  choose(0);
}

function choose(index) {
  state.chosen = index;
  [...at("list").children].forEach((item, each) => item.firstChild.setAttribute("aria-pressed", each === index));
  showChosen();
}

// Windows of a long text

function showWindows(result, windows) {
  at("windows").hidden = windows.length < 2 && !result.truncated;
  at("windows-said").textContent = [
    `${plural(result.n_tokens, "token")} in ${plural(windows.length, "window")} of at most ${state.model.max_length}.`,
    windows.length > 1 ? "A label's probability is its maximum over the windows; the number beside it is that window. Dots show the selected window." : "",
    result.truncated ? "The end of the text was truncated." : "",
  ].join(" ");
  const length = Math.max(1, ...windows.map((each) => each.end));
  at("map").replaceChildren(...windows.map((each, index) => {
    const style = { left: percent(each.start / length), width: percent((each.end - each.start) / length), "--row": index % 2 };
    const button = make("button", { type: "button", textContent: index + 1, ariaLabel: `Window ${index + 1}`, style });
    button.addEventListener("click", () => chooseWindow(index));
    return button;
  }));
  const first = rows.get(labelsOf(result)[0]);
  if (windows.length) chooseWindow(first ? first.best : 0);
}

function chooseWindow(index) {
  const each = state.results[state.chosen].windows[index];
  const several = state.results[state.chosen].windows.length > 1;
  [...at("map").children].forEach((button, other) => button.setAttribute("aria-pressed", other === index));
  // Offsets count code points, as Python does, not UTF-16 units.
  at("excerpt").textContent = [...state.texts[state.chosen]].slice(each.start, each.end).join("");
  at("excerpt").scrollTop = 0;
  for (const [label, row] of rows) {
    row.tick.hidden = !several;
    row.tick.style.setProperty("left", percent(each.probabilities[label]));
    row.window.setAttribute("aria-pressed", row.best === index);
  }
}

// Explanation of a label

const LISTED = 6; // number of words listed with their effects
const STRONGEST = 0.45; // background opacity of the strongest word
const FAINT = 0.1; // fraction of the strongest effect below which a word is not underlined
const signed = (effect) => (effect < 0 ? "−" : "+") + Math.abs(effect).toFixed(3);

async function explain(label) {
  const text = state.texts[state.chosen];
  showWhy(text, await ask("v1/explain", { input: text, label }));
}

function showWhy(text, explanation) {
  const { label, passages, carried_by: best } = explanation;
  const others = passages.filter((_, index) => index !== best).map((each) => shown(each.probability));
  at("why-title").textContent = `Why ${label}`;
  at("why-said").textContent = [
    `Probability ${shown(explanation.probability)}, the model's threshold ${shown(explanation.threshold)}.`,
    others.length ? `From window ${best + 1} of ${passages.length}, whose words are explained. Other windows: ${others.join(", ")}.` : "",
  ].join(" ").trim();
  at("why-text").replaceChildren(...marked([...text], explanation.words));
  const strongest = [...explanation.words].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect)).slice(0, LISTED);
  at("why-words").replaceChildren(...strongest.sort((a, b) => b.effect - a.effect).map((word) =>
    make("li", {}, `${[...text].slice(word.start, word.end).join("")} `, make("span", { textContent: signed(word.effect) }))));
  for (const [name, row] of rows) row.why.setAttribute("aria-pressed", name === label);
  if (passages.length > 1) chooseWindow(best);
  at("why").hidden = false;
  const first = at("why-text").querySelector("mark");
  at("why-text").scrollTop = first ? first.offsetTop - at("why-text").offsetTop - 24 : 0;
  at("why").scrollIntoView({ block: "nearest" });
}

// Offsets count code points, as Python does, not UTF-16 units. Text outside the explained passage is dimmed.
function marked(characters, words) {
  const part = (start, end) => characters.slice(start, end).join("");
  const strongest = Math.max(1e-9, ...words.map((word) => Math.abs(word.effect)));
  const parts = [];
  let last = 0;
  for (const word of words) {
    parts.push(last ? part(last, word.start) : make("span", { className: "unread", textContent: part(0, word.start) }));
    const share = Math.abs(word.effect) / strongest;
    const className = (word.effect < 0 ? "against" : "for") + (share < FAINT ? " faint" : "");
    const style = { "--strength": (STRONGEST * share).toFixed(3) };
    parts.push(make("mark", { className, style, title: signed(word.effect), textContent: part(word.start, word.end) }));
    last = word.end;
  }
  return [...parts, make("span", { className: "unread", textContent: part(last) })];
}

function closeWhy() {
  at("why").hidden = true;
  for (const row of rows.values()) row.why.setAttribute("aria-pressed", false);
}

// Code snippet

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

const SNIPPETS = {
  curl: (url, body, key) => [
    `curl ${quoted(url)}`,
    ...(key ? ['  -H "Authorization: Bearer $MANYLABEL_API_KEY"'] : []),
    "  -H 'Content-Type: application/json'",
    `  -d ${quoted(JSON.stringify(body))}`,
  ].join(" \\\n"),
  python: (url, body, key) => [
    "import json",
    ...(key ? ["import os"] : []),
    "from urllib.request import Request, urlopen",
    "",
    "body = {",
    ...Object.entries(body).map(([name, value]) => `    ${JSON.stringify(name)}: ${JSON.stringify(value)},`),
    "}",
    "headers = {\"Content-Type\": \"application/json\"}",
    ...(key ? ['headers["Authorization"] = "Bearer " + os.environ["MANYLABEL_API_KEY"]'] : []),
    `request = Request(${JSON.stringify(url)}, json.dumps(body).encode(), headers)`,
    "for each in json.load(urlopen(request))[\"predictions\"]:",
    "    print(each[\"labels\"], each[\"probabilities\"])",
  ].join("\n"),
};

function showSnippet() {
  const texts = typed();
  const own = state.model ? changed() : {};
  const body = { inputs: texts.length ? texts : ["your text"], ...(Object.keys(own).length ? { thresholds: own } : {}) };
  const language = document.querySelector("input[name=language]:checked").value;
  at("snippet").textContent = SNIPPETS[language](new URL("v1/classify", document.baseURI).href, body, !at("key-row").hidden);
}

async function copy() {
  const text = at("snippet").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // unavailable over plain HTTP, except on localhost
    getSelection().selectAllChildren(at("snippet"));
    document.execCommand("copy");
  }
  at("copy").textContent = "Copied";
  setTimeout(() => { at("copy").textContent = "Copy"; }, 1500);
}

// Start

async function load() {
  state.model = await ask("v1/model");
  state.thresholds = bundled();
  const { name, labels, precision, device, max_length: tokens } = state.model;
  document.title = `${name} · manylabel`;
  at("model").replaceChildren(
    make("strong", { textContent: name }),
    ...[plural(labels.length, "label"), `${precision} on ${device}`, `${tokens} tokens at once`].map((fact) => make("span", { textContent: fact })),
  );
  buildRows();
  decide();
}

async function run(...steps) {
  at("alert").hidden = true;
  at("go").disabled = true;
  at("form").ariaBusy = "true";
  try {
    for (const step of steps) await step();
  } catch (fault) {
    at("status").textContent = "";
    at("alert").textContent = fault.message;
    at("alert").hidden = false;
  } finally {
    at("go").disabled = false;
    at("form").ariaBusy = "false";
    showSnippet();
  }
}

const submit = () => run(...(state.model ? [classify] : [load, classify]));
at("form").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
at("texts").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
});
at("texts").addEventListener("input", showSnippet);
for (const choice of document.querySelectorAll("input[name=mode], input[name=language]")) choice.addEventListener("change", showSnippet);
at("reset").addEventListener("click", () => { state.thresholds = bundled(); decide(); });
at("copy").addEventListener("click", copy);
at("why-close").addEventListener("click", () => {
  const row = [...rows.values()].find((each) => each.why.ariaPressed === "true");
  closeWhy();
  if (row) row.why.focus();
});
run(load);
