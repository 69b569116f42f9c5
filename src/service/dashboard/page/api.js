// Requests to the service. The key is kept for this tab only.

const KEY = "wsfleet-key";

/** A request that the service refused, or that did not reach it. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

let askForKey = () => new Promise(() => {});
let asking = null;

/** Says how people are asked for a key. The function is given what is wrong with the one there is, if there is one. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

export const forgetKey = () => sessionStorage.removeItem(KEY);

/** Sends a request with the key; asks for one, and sends it again, where the service wants another. */
export async function send(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers };
    if (key !== null) headers.authorization = `Bearer ${key}`;
    const answer = await fetch(path, { ...options, headers, cache: "no-store", redirect: "error" });
    if (answer.status !== 401) return answer;
    if (key !== sessionStorage.getItem(KEY)) continue;
    asking ??= askForKey(key === null ? "" : "The service does not know this key.").then((given) => {
      sessionStorage.setItem(KEY, given);
      asking = null;
    });
    await asking;
  }
}

/** What went wrong, of an answer that is no success. */
export async function refusal(answer) {
  let detail = `${answer.status} ${answer.statusText}`;
  try {
    const problem = await answer.json();
    detail = problem.detail ?? problem.title ?? detail;
  } catch {
    // It is no problem document: the status has to do.
  }
  return new Refused(answer.status, detail);
}

async function json(path, options) {
  const answer = await send(path, options);
  if (!answer.ok) throw await refusal(answer);
  return answer.status === 204 ? null : answer.json();
}

export const get = (path, signal) => json(path, { signal });

/** Starts something. The key makes sure that it is not started twice. */
export const post = (path, body) =>
  json(path, {
    method: "POST",
    headers: { "content-type": "application/json", "idempotency-key": crypto.randomUUID() },
    body: JSON.stringify(body ?? {}),
  });

/** All items of a list, page by page; at most so many. */
export async function list(path, name, most = Infinity) {
  const items = [];
  let next = null;
  do {
    const query = new URLSearchParams({ limit: String(Math.min(most - items.length, 1000)) });
    if (next !== null) query.set("cursor", next);
    const page = await get(`${path}${path.includes("?") ? "&" : "?"}${query}`);
    items.push(...(page[name] ?? []));
    next = page.next_cursor ?? null;
  } while (next !== null && items.length < most);
  return items;
}
