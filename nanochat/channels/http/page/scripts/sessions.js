// The list of sessions: read anew now and then, and when something has happened.

const LIST_MS = 10_000;
const LIST_STEP = 200; // of them at a time; what is older is asked for
const LIST_MOST = 1000; // in one request

const BEGINS = /^[a-z][a-z0-9_-]*:\S/; // what could be the key of a session

const FRAME = /^<delivered from="([^"]*)">.*/;

class SessionList {
  constructor({ onCounts }) {
    this.onCounts = onCounts;
    this.place = byId("sessions");
    this.filter = byId("filter");
    this.more = byId("older-sessions");
    this.note = byId("sessions-note");
    this.rows = []; // newest first: those of the last look, and below them the older ones as they were when they were asked for
    this.total = 0;
    this.shown = this.wanted = LIST_STEP;
    this.current = "";
    this.seen = new Map(); // messages per key, when it was last looked at, or was first listed
    this.since = null; // when the newest was written at the first look: a session of then that is listed later is no news
    this.items = new Map();
    this.filter.addEventListener("input", () => this.filtered());
    this.filter.addEventListener("keydown", (event) => this.key(event));
    this.place.addEventListener("keydown", (event) => this.key(event));
    this.more.addEventListener("click", () => this.showOlder());
    document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(this.next) : this.refresh()));
    this.first = new Promise((resolve) => { this.arrived = resolve; });
    this.refresh();
  }

  soon() {
    this.due ??= setTimeout(() => this.refresh(), 300);
  }

  // One look at a time. A page that nobody sees looks only when its own session has news, for the title.
  async refresh() {
    clearTimeout(this.due);
    clearTimeout(this.next);
    this.due = null;
    if (this.isLooking) return void (this.isStale = true);
    this.isLooking = true;
    try {
      const { sessions, total } = await wire.json(`sessions?limit=${LIST_STEP}`);
      this.take(sessions, total);
    } catch (error) {
      if (!this.rows.length) this.note.textContent = reason(error);
    }
    this.isLooking = false;
    if (this.isStale) this.soon();
    else if (!document.hidden) this.next = setTimeout(() => this.refresh(), LIST_MS);
    this.isStale = false;
  }

  // The newest sessions as they are; what is older stays as it was, unless there is more of it than there can be.
  take(newest, total) {
    const keys = new Set(newest.map((row) => row.key));
    const older = this.rows.filter((row) => !keys.has(row.key));
    this.rows = newest.length + older.length > total ? newest : [...newest, ...older];
    this.total = total;
    if (this.since === null) {
      this.since = Math.max(0, ...newest.map((row) => Date.parse(row.updated_at)));
      this.know(newest);
    }
    this.look();
    this.draw();
    this.fetchOlder(this.wanted);
    this.arrived(newest);
  }

  know(rows) {
    for (const row of rows) if (!this.seen.has(row.key)) this.seen.set(row.key, row.messages);
  }

  // More of the list, as far as it is wanted.
  async fetchOlder(wanted) {
    this.wanted = Math.max(this.wanted, wanted);
    if (this.isFetching) return;
    this.isFetching = true;
    try {
      while (this.rows.length < Math.min(this.wanted, this.total)) {
        const limit = Math.min(LIST_MOST, this.wanted - this.rows.length);
        const { sessions, total } = await wire.json(`sessions?limit=${limit}&offset=${this.rows.length}`);
        const keys = new Set(this.rows.map((row) => row.key));
        const added = sessions.filter((row) => !keys.has(row.key));
        this.rows.push(...added);
        this.know(added);
        this.total = added.length ? total : this.rows.length; // the list has changed meanwhile: what is missing is at its top now
        this.draw();
      }
    } catch (error) {
      this.note.textContent = reason(error);
    }
    this.isFetching = false;
  }

  showOlder() {
    this.shown += LIST_STEP;
    this.draw();
    this.fetchOlder(this.shown);
  }

  row(key) { return this.rows.find((row) => row.key === key); }

  look() {
    const row = document.hidden ? null : this.row(this.current);
    if (row) this.seen.set(row.key, row.messages);
  }

  open(key) {
    this.current = key;
    this.look();
    this.draw();
  }

  isUnread(row) {
    if (row.key === this.current && !document.hidden) return false;
    const seen = this.seen.get(row.key);
    return seen === undefined ? Date.parse(row.updated_at) > this.since : row.messages > seen;
  }

  filtered() {
    if (this.filter.value.trim()) this.fetchOlder(Infinity);
    this.draw();
  }

  draw() {
    const wanted = this.filter.value.trim().toLowerCase();
    const found = this.rows.filter((row) => row.key.toLowerCase().includes(wanted));
    const kept = new Map();
    for (const row of found.slice(0, this.shown)) kept.set(row.key, this.item(row));
    this.items = kept;
    const nodes = [...kept.values()].map((item) => item.node);
    // An element that is moved loses the focus, so only what is out of its place is moved.
    nodes.forEach((node, i) => { if (this.place.children[i] !== node) this.place.insertBefore(node, this.place.children[i] ?? null); });
    while (this.place.children.length > nodes.length) this.place.lastChild.remove();
    const left = (wanted ? found.length : this.total) - nodes.length;
    this.more.hidden = left <= 0;
    this.note.textContent = left > 0 ? `${number(left)} more` : found.length ? "" : this.none(wanted);
    this.onCounts(this.rows.filter((row) => this.isUnread(row)).length);
  }

  none(wanted) {
    if (!wanted) return "No sessions yet.";
    return BEGINS.test(wanted) ? "No such session. Enter begins it." : "No session has such a key.";
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
      const key = this.row(typed) || (!links.length && BEGINS.test(typed)) ? typed : null;
      if (key) location.hash = hashOf(key);
      else links[0]?.click();
    } else return;
    event.preventDefault();
  }
}

const hashOf = (key) => `#${encodeURIComponent(key)}`;

function keyInHash() {
  try {
    const key = decodeURIComponent(location.hash.slice(1));
    return key && !key.includes(":") ? `http:${key}` : key;
  } catch {
    return ""; // not of our making
  }
}
