"use strict";

// Everything that is shown is put there as text.
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

const byId = (id) => document.getElementById(id);
let schemas = {};

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return make("a", { href: "#schema-" + name, onclick: () => { byId("schema-" + name).open = true; } }, name);
  }
  const choices = schema.oneOf || schema.anyOf || schema.allOf;
  if (choices) return make("span", {}, ...choices.flatMap((one, index) => (index ? [" | ", typeOf(one)] : [typeOf(one)])));
  if (schema.type === "array") return make("span", {}, "array of ", typeOf(schema.items));
  const type = Array.isArray(schema.type) ? schema.type.join(" | ") : schema.type || "any";
  const choice = schema.enum ? ": " + schema.enum.join(", ") : "";
  return type + (schema.format ? " (" + schema.format + ")" : "") + choice;
}

function row(...cells) {
  return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
}

function fields(schema) {
  const all = [];
  for (const part of schema.allOf || [schema]) {
    if (part.$ref) all.push(row("", typeOf(part), "all of its fields"));
    for (const [name, field] of Object.entries(part.properties || {})) {
      const needed = (part.required || []).includes(name) ? "" : " (may be absent)";
      all.push(row(make("code", {}, name), typeOf(field), (field.description || "") + needed + (field.writeOnly ? " Never told again." : "")));
    }
  }
  if (!all.length) return make("p", {}, typeOf(schema));
  return make("table", {}, ...all);
}

function headers() {
  const key = byId("key").value;
  return key ? { Authorization: "Bearer " + key } : {};
}

function attempt(path, parameters) {
  const inputs = parameters
    .filter((one) => one.in !== "header")
    .map((one) => [one, make("input", { placeholder: one.name + (one.required ? " (needed)" : "") , "aria-label": one.name })]);
  const answer = make("pre", { hidden: "" });
  const send = async (event) => {
    event.preventDefault();
    let target = path;
    const query = new URLSearchParams();
    for (const [one, input] of inputs) {
      if (one.in === "path") target = target.replace("{" + one.name + "}", encodeURIComponent(input.value));
      else if (input.value) query.append(one.name, input.value);
    }
    const text = query.toString();
    answer.hidden = false;
    answer.textContent = "...";
    const aborted = new AbortController();
    const timer = setTimeout(() => aborted.abort(), 15000);
    try {
      const response = await fetch(target + (text ? "?" + text : ""), { headers: headers(), signal: aborted.signal });
      answer.textContent = response.status + " " + response.statusText + "\n" + (await shown(response, aborted));
    } catch (error) {
      answer.textContent = String(error);
    }
    clearTimeout(timer);
  };
  return make("form", { onsubmit: send }, ...inputs.map(([, input]) => input), make("button", {}, "Send"), answer);
}

// The beginning of an answer: some never end.
async function shown(response, aborted) {
  if (!response.body) return "";
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (text.length < 65536) {
    const { done, value } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
    if ((response.headers.get("content-type") || "").startsWith("text/event-stream") && text.length) break;
  }
  aborted.abort();
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function operation(method, path, one) {
  const parameters = one.parameters || [];
  const about = make("div", {});
  if (one.description) about.append(make("p", {}, one.description));
  if (parameters.length) {
    about.append(make("h3", {}, "Parameters"), make("table", {}, ...parameters.map((parameter) =>
      row(make("code", {}, parameter.name), parameter.in, typeOf(parameter.schema), (parameter.required ? "Needed. " : "") + (parameter.description || "")))));
  }
  if (one.requestBody) {
    about.append(make("h3", {}, "Body"));
    for (const [kind, content] of Object.entries(one.requestBody.content)) {
      about.append(make("p", {}, make("code", {}, kind), " ", typeOf(content.schema), " ", one.requestBody.description || ""));
      if (content.example) about.append(make("pre", {}, JSON.stringify(content.example, null, 2)));
    }
  }
  about.append(make("h3", {}, "Answers"), make("table", {}, ...Object.entries(one.responses).map(([status, response]) => {
    const kinds = Object.entries(response.content || {});
    const forms = make("span", {}, ...kinds.flatMap(([kind, content]) => [make("code", {}, kind), " ", typeOf(content.schema), " "]));
    return row(make("code", {}, status), response.description, forms);
  })));
  if (method === "get") about.append(make("h3", {}, "Try it"), attempt(path, parameters));
  const words = (method + " " + path + " " + (one.summary || "") + " " + (one.description || "")).toLowerCase();
  return make("details", { "data-words": words },
    make("summary", {}, make("b", { class: "method " + method }, method.toUpperCase()), make("code", {}, path), make("span", {}, one.summary || "")),
    about);
}

function show(document_) {
  schemas = (document_.components || {}).schemas || {};
  byId("title").textContent = document_.info.title + " " + document_.info.version;
  byId("about").textContent = document_.info.description || "";
  for (const tag of document_.tags || []) {
    byId("operations").append(make("h2", {}, tag.name), make("p", {}, tag.description || ""));
    for (const [path, item] of Object.entries(document_.paths)) {
      for (const [method, one] of Object.entries(item)) {
        if ((one.tags || []).includes(tag.name)) byId("operations").append(operation(method, path, one));
      }
    }
  }
  for (const [name, schema] of Object.entries(schemas)) {
    const about = make("div", {}, make("p", {}, schema.description || ""), fields(schema));
    byId("schemas").append(make("details", { id: "schema-" + name, "data-words": name.toLowerCase() },
      make("summary", {}, make("code", {}, name)), about));
  }
}

byId("access").addEventListener("submit", (event) => event.preventDefault());
byId("filter").addEventListener("input", () => {
  const words = byId("filter").value.toLowerCase();
  for (const one of document.querySelectorAll("details")) one.hidden = !one.dataset.words.includes(words);
});

fetch("/openapi.json")
  .then((response) => response.json())
  .then(show)
  .catch((error) => {
    byId("failure").hidden = false;
    byId("failure").textContent = "The description cannot be read: " + error;
  });
