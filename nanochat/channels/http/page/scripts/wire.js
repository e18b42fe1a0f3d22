// The service: requests with the token, refusals as Problems, event streams read from a fetch (an EventSource sends no token).

const IDLE_MS = 45_000; // three of the service's keep-alives
const ANSWER_MS = 60_000; // an answer has begun by then, however long the message; else nobody is there
const LASTED_MS = 10_000; // a connection that held for so long was a good one

class Problem extends Error {
  constructor(status, told = {}) {
    super(told.detail || told.title || `the service answered ${status}`);
    this.status = status;
    this.kind = told.kind ?? "";
    this.errorId = told.error_id ?? "";
    this.kept = Boolean(told.kept);
    this.retryAfterS = told.retry_after_s ?? null;
  }
}

const wire = {
  token: inTab("nanochat-token"),
  asking: null,
  knocking: null,

  async request(path, { method = "GET", body, headers = {}, signal } = {}) {
    for (;;) {
      if (!this.token.get()) await this.knock();
      const token = this.token.get();
      const late = new AbortController();
      const timer = setTimeout(() => late.abort(), ANSWER_MS);
      const response = await fetch(path, {
        method,
        signal: AbortSignal.any(signal ? [signal, late.signal] : [late.signal]),
        headers: {
          ...headers,
          ...(token && { Authorization: `Bearer ${token}` }),
          ...(body && { "Content-Type": "application/json" }),
        },
        body: body && JSON.stringify(body),
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
      }).finally(() => clearTimeout(timer));
      if (response.status === 401) {
        await this.ask(token);
        continue;
      }
      if (!response.ok) throw await refusal(response);
      return response;
    }
  },

  async json(path, options) {
    return (await this.request(path, options)).json();
  },

  // Whether a token is needed is seen by what the service tells of itself without one.
  knock() {
    this.knocking ??= (async () => {
      const { version } = await (await fetch("health", { cache: "no-store", credentials: "omit" })).json();
      if (version === undefined) await this.ask("");
    })().finally(() => { this.knocking = null; });
    return this.knocking;
  },

  // One form for all that wait for it; a token that has changed since is tried first.
  ask(refused) {
    if (this.token.get() !== refused) return Promise.resolve();
    this.asking ??= askForToken(Boolean(refused)).finally(() => { this.asking = null; });
    return this.asking;
  },
};

async function refusal(response) {
  let told = {};
  try { told = await response.json(); } catch { /* whoever stands between us answered, and in another form */ }
  const after = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return new Problem(response.status, { ...told, retry_after_s: Number.isNaN(after) ? null : after });
}

const NOT_ACCEPTED = "This token is not accepted.";

function askForToken(wasRefused) {
  const [door, form, field, error] = ["door", "token-form", "token", "token-error"].map(byId);
  error.textContent = wasRefused ? NOT_ACCEPTED : "";
  wire.token.set("");
  field.value = "";
  door.showModal();
  field.focus();
  return new Promise((resolve) => {
    const reopen = () => { door.showModal(); field.focus(); }; // nothing works without one; a second Escape cannot be prevented
    const submit = async (event) => {
      event.preventDefault();
      const token = field.value.trim();
      error.textContent = /^[\x21-\x7e]+$/.test(token) ? await tokenError(token) : NOT_ACCEPTED;
      if (error.textContent) return field.select();
      wire.token.set(token);
      form.removeEventListener("submit", submit);
      door.removeEventListener("close", reopen);
      field.value = "";
      door.close();
      resolve();
    };
    form.addEventListener("submit", submit);
    door.addEventListener("close", reopen);
  });
}

async function tokenError(token) {
  try {
    const response = await fetch("health", { headers: { Authorization: `Bearer ${token}` }, cache: "no-store", credentials: "omit" });
    if (response.ok) return "";
    return response.status === 401 ? NOT_ACCEPTED : (await refusal(response)).message;
  } catch {
    return "nanochat cannot be reached.";
  }
}

const pathOf = (key, rest = "") => `sessions/${encodeURIComponent(key)}${rest}`;

// --- server-sent events ---------------------------------------------------------------------------------------------

class EventParser {
  constructor() { this.buffer = ""; this.seen = 0; this.forget(); }

  forget() { this.event = { type: "message", data: [], id: null }; }

  // The events that `text` completes. A carriage return at its end may be half a line break, so it waits.
  *feed(text) {
    this.buffer += text;
    let start = 0;
    for (;;) {
      const end = this.lineEnd();
      if (end === null) break;
      const line = this.buffer.slice(start, end.at);
      start = this.seen = end.next;
      if (line) this.field(line);
      else {
        if (this.event.data.length) yield { ...this.event, data: this.event.data.join("\n") };
        this.forget();
      }
    }
    this.buffer = this.buffer.slice(start);
    this.seen = Math.max(0, this.buffer.length - 1);
  }

  lineEnd() {
    for (let at = this.seen; at < this.buffer.length; at++) {
      const char = this.buffer.charCodeAt(at);
      if (char === 10) return { at, next: at + 1 };
      if (char !== 13) continue;
      if (at + 1 === this.buffer.length) return null;
      return { at, next: this.buffer.charCodeAt(at + 1) === 10 ? at + 2 : at + 1 };
    }
    return null;
  }

  field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment keeps the line open and says nothing
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "event") this.event.type = value;
    else if (name === "data") this.event.data.push(value);
    else if (name === "id") this.event.id = value;
  }
}

// Every event of an answer until it ends; one that is silent for too long is broken off by `idle`, which raises.
async function* eventsOf(response, idle) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser();
  let timer;
  const rewind = () => {
    clearTimeout(timer);
    timer = setTimeout(() => idle.abort(), IDLE_MS);
  };
  try {
    for (;;) {
      rewind();
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.feed(value);
    }
  } finally {
    clearTimeout(timer);
    reader.cancel().catch(() => {}); // it may be broken already, and then nobody is left to tell
  }
}

// A pause that ends early when the network returns, or the page is looked at again.
function pause(ms, signal) {
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      window.removeEventListener("online", wake);
      document.removeEventListener("visibilitychange", look);
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    const look = () => document.visibilityState === "visible" && wake();
    const timer = setTimeout(wake, ms);
    window.addEventListener("online", wake);
    document.addEventListener("visibilitychange", look);
    signal?.addEventListener("abort", wake);
  });
}

// 0.5 s, 1 s, 2 s, … 15 s, each shortened by up to a third, so that many tabs do not come back at one instant.
const backOffMs = (attempt) => Math.min(15_000, 500 * 2 ** attempt) * (1 - Math.random() / 3);

// --- the lines of one session ---------------------------------------------------------------------------------------

// Follows a session's file until it is stopped. `place` is {after: byte} for the lines after that one, or {from: …}.
class Live {
  constructor(key, place, { onLine, onReplaced, onState }) {
    Object.assign(this, { key, place, onLine, onReplaced, onState });
    this.ended = new AbortController();
    this.run();
  }

  stop() { this.ended.abort(); }

  async run() {
    for (let attempt = 0; !this.ended.signal.aborted; attempt++) {
      const began = Date.now();
      let why = "";
      try {
        await this.follow();
      } catch (error) {
        if (error instanceof Problem) {
          if (error.status < 500 && error.status !== 429) return this.tell("refused", sentence(error.message));
          why = error.kind && sentence(error.message); // without a kind it is a proxy's
        }
      }
      if (this.ended.signal.aborted) return;
      this.tell("lost", why);
      if (Date.now() - began > LASTED_MS) attempt = 0;
      await pause(backOffMs(attempt), this.ended.signal);
    }
  }

  async follow() {
    const idle = new AbortController();
    const signal = AbortSignal.any([this.ended.signal, idle.signal]);
    const { after, from } = this.place;
    const headers = after == null ? {} : { "Last-Event-ID": String(after) };
    const response = await wire.request(pathOf(this.key, after == null ? `/live?from=${from}` : "/live"), { headers, signal });
    this.tell("live");
    for await (const event of eventsOf(response, idle)) {
      if (this.ended.signal.aborted) return;
      if (event.type === "replaced") {
        this.place = { from: "start" };
        this.onReplaced();
      } else if (event.type === "line") {
        this.place = { after: Number(event.id) };
        this.onLine(Number(event.id), event.data);
      } else if (event.type === "error") {
        const told = JSON.parse(event.data);
        throw new Problem(told.status, told);
      }
    }
  }

  tell(state, why = "") {
    if (!this.ended.signal.aborted) this.onState(state, why);
  }
}
