// The page is a client like any other: a bearer token, JSON, and the event stream over fetch,
// because EventSource cannot send an Authorization header.

const KEY = "tasco-token";
const BASE = "api/v1/";

export class LoginNeeded extends Error {}

export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    // The token must not stay in the address line, where it would be copied and remembered.
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(KEY);
}

export function setToken(token) {
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
}

async function request(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  if (!token) throw new LoginNeeded("no token");
  const response = await fetch(BASE + path, {
    cache: "no-store",
    ...options,
    headers: { Authorization: `Bearer ${token}`, ...options.headers },
  });
  if (response.ok) return response;
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    problem = {};
  }
  const words = problem.detail || problem.title || `the server answered ${response.status}`;
  throw response.status === 401 ? new LoginNeeded(words) : new Error(words);
}

export async function get(path) {
  return (await request(path)).json();
}

// Calls heard() on every sign of life and event(name, data) on each event, until the stream ends.
export async function follow(path, { signal, heard, event }) {
  const response = await request(path, { signal });
  heard();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      let name = "message";
      let data = "";
      for (const line of block.split("\n")) {
        if (line.startsWith("event:")) name = line.slice(6).trim();
        else if (line.startsWith("data:")) data += line.slice(5);
      }
      if (data) event(name, JSON.parse(data));
    }
  }
}
