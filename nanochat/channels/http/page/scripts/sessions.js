// The list of sessions: read anew now and then, and when something has happened.

const LIST_MS = 10_000;
const HIDDEN_LIST_MS = 60_000;
const LIST_STEP = 200;
const LIST_MOST = 1000;

const FRAME = /^<delivered from="([^"]*)">.*/;

class SessionList {
  constructor({ onCounts }) {
    this.onCounts = onCounts;
    this.place = byId("sessions");
    this.filter = byId("filter");
    this.more = byId("more-sessions");
    this.rows = [];
    this.total = 0;
    this.limit = LIST_STEP;
    this.current = "";
    this.seen = null; // messages per key when it was last looked at; what stands there at first is not news
    this.items = new Map();
    this.filter.addEventListener("input", () => this.filtered());
    this.filter.addEventListener("keydown", (event) => this.key(event));
    this.place.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.refresh());
    this.first = new Promise((resolve) => { this.arrived = resolve; });
    this.turn();
  }

  async turn() {
    for (;;) {
      await this.refresh();
      await new Promise((resolve) => setTimeout(resolve, document.hidden ? HIDDEN_LIST_MS : LIST_MS));
    }
  }

  soon() {
    this.due ??= setTimeout(() => { this.due = null; this.refresh(); }, 300);
  }

  async refresh() {
    try {
      const { sessions, total } = await wire.json(`sessions?limit=${this.limit}`);
      this.take(sessions, total);
    } catch (error) {
      if (!this.rows.length) this.say(error instanceof Problem ? error.message : "nanochat cannot be reached");
    }
  }

  take(sessions, total) {
    this.rows = sessions;
    this.total = total;
    this.seen ??= new Map(sessions.map((row) => [row.key, row.messages]));
    const row = this.row(this.current);
    if (row && !document.hidden) this.seen.set(row.key, row.messages);
    this.draw();
    this.arrived(sessions);
  }

  row(key) { return this.rows.find((row) => row.key === key); }

  open(key) {
    this.current = key;
    const row = this.row(key);
    if (row) this.seen?.set(key, row.messages);
    this.draw();
  }

  isUnread(row) {
    if (row.key === this.current && !document.hidden) return false;
    return row.messages > (this.seen?.get(row.key) ?? 0);
  }

  filtered() {
    if (this.filter.value && this.total > this.rows.length && this.limit < LIST_MOST) {
      this.limit = LIST_MOST;
      this.refresh();
    }
    this.draw();
  }

  draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    const rows = this.rows.filter((row) => row.key.toLowerCase().includes(wanted));
    const kept = new Map();
    for (const row of rows) kept.set(row.key, this.item(row));
    this.items = kept;
    const nodes = [...kept.values()].map((item) => item.node);
    // An element that is moved loses the focus, so only what is out of its place is moved.
    nodes.forEach((node, i) => { if (this.place.children[i] !== node) this.place.insertBefore(node, this.place.children[i] ?? null); });
    while (this.place.children.length > nodes.length) this.place.lastChild.remove();
    this.say(this.rest(rows.length, wanted));
    this.onCounts(this.rows.filter((row) => this.isUnread(row)).length);
  }

  rest(shown, wanted) {
    if (this.total > this.rows.length) {
      const more = element("button", { type: "button", class: "quiet", onclick: () => { this.limit = LIST_MOST; this.refresh(); } }, "Show more");
      const left = counted(this.total - this.rows.length, "older session is", "older sessions are");
      return this.limit < LIST_MOST ? [`${left} not shown. `, more] : [`${left} not shown.`];
    }
    if (shown) return [];
    return [wanted ? (/^[a-z][a-z0-9_-]*:\S/.test(wanted) ? "No such session. Enter begins it." : "No session has such a key.") : "No sessions yet."];
  }

  say(...texts) {
    const flat = texts.flat();
    this.more.replaceChildren(...flat);
    this.more.hidden = flat.length === 0;
  }

  item(row) {
    const text = JSON.stringify([row, this.isUnread(row), row.key === this.current, new Date().toDateString()]);
    const old = this.items.get(row.key);
    if (old?.text === text) return old;
    const node = old?.node ?? element("li");
    const isUnread = this.isUnread(row);
    const link = node.firstChild ?? element("a", { href: hashOf(row.key) });
    link.className = isUnread ? "unread" : "";
    if (row.key === this.current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    link.replaceChildren(
      element("span", { class: "key" }, row.key), timeElement(row.updated_at, false) ?? "",
      element("span", { class: "preview" }, row.preview.replace(FRAME, "delivered from $1") || "nothing said yet"),
      isUnread ? element("span", { class: "unseen" }, "new messages") : "");
    if (!node.firstChild) node.append(link);
    return { node, text };
  }

  // Up and down through the list, and from the filter into it; Enter in the filter opens the first, or a key that is new.
  key(event) {
    const links = [...this.place.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (event.key === "ArrowDown") links[Math.min(at + 1, links.length - 1)]?.focus();
    else if (event.key === "ArrowUp" && at >= 0) (links[at - 1] ?? this.filter).focus();
    else if (event.key === "Enter" && event.target === this.filter) {
      const typed = this.filter.value.trim();
      const key = this.row(typed) || (!links.length && /^[a-z][a-z0-9_-]*:\S/.test(typed)) ? typed : null;
      if (key) location.hash = hashOf(key);
      else links[0]?.click();
    } else return;
    event.preventDefault();
  }
}

const hashOf = (key) => `#${encodeURIComponent(key)}`;

const SKIP = "message"; // where the skip link leads

function keyInHash() {
  try {
    const key = decodeURIComponent(location.hash.slice(1));
    return key && !key.includes(":") && key !== SKIP ? `http:${key}` : key;
  } catch {
    return ""; // not of our making
  }
}
