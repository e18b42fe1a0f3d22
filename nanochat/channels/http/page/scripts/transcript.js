// The conversation on the screen, in the order of its file. Every entry stands at the byte where its line begins, so the same
// line told twice (by the history, and by the live stream) is one entry, and taking back is a matter of bytes.

const MAX_ENTRIES = 500; // in the document; older ones are asked for again
const NEAR_PX = 60;
const TOP_PX = 300;
const OLDER = "Load older messages";

const FRAMED = /^<delivered from="([^"]*)">\n([\s\S]*)\n<\/delivered>$/;

const blocksOf = (content) => (typeof content === "string" ? [{ type: "text", text: content }] : Array.isArray(content) ? content : [])
  .filter((one) => one && typeof one === "object");
const textOf = (content) => blocksOf(content).filter((one) => one.type === "text").map((one) => String(one.text ?? "")).join("\n");
const isCall = (one) => one.type === "tool_use" || one.type === "server_tool_use" || one.type === "mcp_tool_use";
const isResult = (one) => typeof one.tool_use_id === "string";

const MARKS = { stopped: "stopped", cut: "cut off", deadline: "stopped at its deadline", max_tokens: "cut off at its longest",
  refusal: "refused", rounds: "stopped after too many tool calls", context: "cut off, the context is full", pause_turn: "" };

function who(name, stamp) {
  return element("p", { class: "who" }, element("span", {}, name), timeElement(stamp, true));
}

function markLine(mark) {
  const text = mark ? MARKS[mark] ?? mark : "";
  return text ? element("p", { class: "mark" }, text) : null;
}

// One tool call: a line that opens. It is the same whether it runs before our eyes or was run last year.
class ToolLine {
  constructor(name, title, input) {
    this.state = element("span", { class: "tool-state" }, "…");
    this.body = element("div", { class: "tool-body" });
    this.node = element("details", { class: "tool" },
      element("summary", {}, element("span", { class: "tool-name" }, name), element("span", { class: "tool-title" }, title), this.state), this.body);
    if (input && Object.keys(input).length) this.body.append(element("pre", { tabindex: "0" }, JSON.stringify(input, null, 2)));
  }

  static of(call) {
    const input = call.input && typeof call.input === "object" ? call.input : {};
    const title = Object.values(input).filter((value) => typeof value === "string" || typeof value === "number").join(" · ");
    return new ToolLine(String(call.name), title.slice(0, 200), input);
  }

  finish(ok, seconds, output) {
    this.ok ??= ok;
    if (seconds != null) this.seconds = seconds;
    if (output) this.body.append(element("pre", { class: "output", tabindex: "0" }, output));
    this.node.classList.toggle("failed", this.ok === false);
    const time = this.seconds == null ? "" : `${this.seconds.toFixed(1)} s`;
    this.state.textContent = [this.ok === false ? "failed" : time ? "" : "done", time].filter(Boolean).join(", ");
  }
}

class Transcript {
  constructor({ onStale, onTop }) {
    Object.assign(this, { onStale, onTop });
    this.log = byId("log");
    this.scroller = byId("scroller");
    this.olderButton = byId("older");
    this.pill = byId("pill");
    this.sticks = true;
    this.made = new Map(); // texts that are on the page already, as they streamed
    this.clear();
    this.scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    new ResizeObserver(() => this.settle()).observe(this.log);
    new ResizeObserver(() => this.settle()).observe(this.scroller);
  }

  clear() {
    this.entries = [];
    this.byStart = new Map();
    this.tools = new Map();
    this.results = new Map();
    this.unread = 0;
    this.before = null;
    this.isCut = false; // the newest are not in the document, because somebody reads far above
    this.tail = null;
    this.log.replaceChildren();
    this.olderButton.hidden = true;
    this.olderButton.textContent = OLDER;
    this.pill.hidden = true;
    this.sticks = true;
  }

  get messages() { return this.entries.filter((entry) => entry.role); }

  // --- entries ------------------------------------------------------------------------------------------------------

  // Put an entry where its line stands. Its node may be null: a line of results has nothing of its own to show.
  place(entry) {
    if (this.byStart.has(entry.start)) return false;
    let at = this.entries.length;
    while (at > 0 && this.entries[at - 1].start > entry.start) at--;
    const next = this.entries.slice(at).find((other) => other.node);
    this.entries.splice(at, 0, entry);
    this.byStart.set(entry.start, entry);
    if (entry.node) {
      if (next) next.node.before(entry.node);
      else this.putLast(entry.node);
    }
    return true;
  }

  // Below all that is in the file, above what is still being asked.
  putLast(node) {
    if (this.tail?.isConnected) this.tail.before(node);
    else this.log.append(node);
  }

  remove(entry) {
    entry.node?.remove();
    this.byStart.delete(entry.start);
    for (const id of entry.calls ?? []) {
      this.tools.delete(id);
      this.results.delete(id);
    }
  }

  addMessage(message) {
    if (this.byStart.has(message.start)) return false;
    const entry = { start: message.start, n: message.n, role: message.role, sourceId: message.source_id ?? "", node: null };
    const content = blocksOf(message.content ?? message.text ?? "");
    if (message.role === "assistant") this.makeReply(entry, message, content);
    else this.makeSaid(entry, message, content);
    this.place(entry);
    for (const one of content.filter(isResult)) this.takeResult(one);
    return Boolean(entry.node);
  }

  makeSaid(entry, message, content) {
    const text = textOf(content);
    const other = content.filter((one) => one.type !== "text" && !isResult(one));
    if (!text.trim() && !other.length) return;
    const framed = FRAMED.exec(text.trim());
    if (message.delivered) {
      entry.delivered = true;
      const from = framed ? framed[1] : "";
      entry.node = element("li", { class: "entry delivered" }, who(from ? `Delivered from ${from}` : "Delivered", message.timestamp),
        new Prose(framed ? framed[2] : text).node);
      return;
    }
    entry.node = element("li", { class: "entry user" }, who("You", message.timestamp),
      element("div", { class: "said" }, text), ...other.map((one) => element("p", { class: "mark" }, attached(one))));
  }

  makeReply(entry, message, content) {
    const parts = [];
    entry.calls = [];
    for (const one of content) {
      if (one.type === "text" && String(one.text ?? "").trim()) parts.push(this.prose(String(one.text)));
      else if (isCall(one)) parts.push(this.tool(entry, one).node);
      else if (isResult(one)) this.takeResult(one);
    }
    const mark = markLine(message.mark);
    if (!parts.length && !mark) return;
    entry.meta = element("p", { class: "meta" }, message.usage && message.usage.output ? tokensLine({ input: 0, cache_read: 0, cache_write: 0, output: 0, ...message.usage }) : "");
    entry.node = element("li", { class: "entry reply" }, who("nanochat", message.timestamp), ...parts, mark, entry.meta);
  }

  prose(text) {
    const node = this.made.get(text) ?? new Prose(text).node;
    this.made.delete(text);
    return node;
  }

  tool(entry, call) {
    const line = ToolLine.of(call);
    const id = String(call.id);
    this.tools.set(id, line);
    entry.calls.push(id);
    if (this.results.has(id)) line.finish(...this.results.get(id));
    return line;
  }

  takeResult(result) {
    const text = textOf(result.content ?? "").slice(0, 20_000);
    const told = [result.is_error !== true, null, text];
    this.results.set(result.tool_use_id, told); // its call may be on a page that is not loaded yet
    this.tools.get(result.tool_use_id)?.finish(...told);
  }

  // A turn came to its end: what its last reply took, and how long its tools ran.
  endTurn(record) {
    const replies = this.entries.filter((entry) => entry.sourceId === record.source_id && entry.role === "assistant" && entry.node);
    const last = replies.at(-1);
    if (!last) return;
    for (const reply of replies) reply.meta.replaceChildren();
    const usage = { input: 0, cache_read: 0, cache_write: 0, output: 0, ...record.usage };
    const parts = [tokensLine(usage), money(record.cost_usd ?? null), record.seconds ? `${record.seconds.toFixed(1)} s` : ""];
    last.meta.textContent = parts.filter(Boolean).join(" · ");
    const times = [...(record.tools ?? [])];
    for (const line of replies.flatMap((reply) => reply.calls).map((id) => this.tools.get(id)).filter(Boolean)) {
      const name = line.node.querySelector(".tool-name").textContent;
      const at = times.findIndex(([other]) => other === name);
      if (at >= 0) {
        const [[, seconds, ok]] = times.splice(at, 1);
        line.finish(ok, seconds, "");
      }
    }
  }

  divide(start, kind, text) {
    const isNew = this.place({ start, kind, node: element("li", { class: `divider ${kind}` }, element("span", {}, text)) });
    if (isNew && kind === "reset") this.fade();
    return isNew;
  }

  // What stands before the last new conversation is past.
  fade() {
    const reset = this.entries.findLast((entry) => entry.kind === "reset")?.start ?? -1;
    for (const entry of this.entries) entry.node?.classList.toggle("past", entry.start < reset);
  }

  // Back to byte `to`, said by the line at byte `at`. What is not loaded here has to be read anew.
  rewind(to, at) {
    if (to < (this.entries[0]?.start ?? Infinity)) return this.onStale();
    if (this.entries.some((entry) => entry.kind === "reset" && entry.start >= to && entry.start < at)) return this.onStale();
    const taken = this.entries.filter((entry) => entry.start >= to && entry.start < at);
    for (const entry of taken) this.remove(entry);
    this.entries = this.entries.filter((entry) => this.byStart.has(entry.start));
    return undefined;
  }

  // --- pages --------------------------------------------------------------------------------------------------------

  addPage(page, isOlder) {
    const height = this.scroller.scrollHeight;
    const top = this.scroller.scrollTop;
    byId("voice").setAttribute("aria-live", "off"); // a page of history is no news
    for (const message of page.messages) this.addMessage(message);
    this.before = page.before;
    this.olderButton.hidden = page.before === null;
    this.olderButton.textContent = OLDER;
    if (isOlder) {
      this.scroller.scrollTop = top + this.scroller.scrollHeight - height;
      this.trimBottom();
    } else this.toEnd();
    requestAnimationFrame(() => byId("voice").setAttribute("aria-live", "polite"));
  }

  olderFailed(why) { this.olderButton.textContent = `Load older messages again: ${why}`; }

  trimTop() {
    if (this.entries.length <= MAX_ENTRIES || !this.sticks) return;
    for (const entry of this.entries.splice(0, this.entries.length - MAX_ENTRIES)) this.remove(entry);
    const oldest = this.messages[0];
    if (oldest) this.before = oldest.n;
    this.olderButton.hidden = this.before === null;
  }

  trimBottom() {
    if (this.entries.length <= MAX_ENTRIES) return;
    for (const entry of this.entries.splice(MAX_ENTRIES)) this.remove(entry);
    this.isCut = true;
    this.showPill();
  }

  // --- where the reader is ------------------------------------------------------------------------------------------

  scrolled() {
    const left = this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight;
    this.sticks = left < NEAR_PX && !this.isCut;
    if (this.sticks) this.hidePill();
    this.look();
  }

  // Whoever comes near the top is brought what stands before.
  look() {
    if (this.before !== null && this.scroller.scrollTop < TOP_PX) this.onTop();
  }

  settle() {
    if (this.sticks) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  toEnd() {
    this.sticks = true;
    this.hidePill();
    this.settle();
  }

  // Something came; whoever reads above is told, and left where he is.
  arrived() {
    if (this.sticks) this.trimTop();
    else this.showPill();
  }

  showPill() { this.pill.hidden = false; }
  hidePill() { this.pill.hidden = true; }
}

function attached(block) {
  if (block.type === "image") return "picture";
  if (block.type === "document") return block.title ? `document: ${block.title}` : "document";
  return block.type ? String(block.type) : "attachment";
}
