// One open session: its history, its lines as they come, and what is being asked of it here.

const STATS_MS = 1500;
const PAGE = 100;
const FRESH_MS = 600_000; // a turn takes no longer than this; one that is older was broken off with the daemon
const NOTHING = "Nothing has been said here yet.";
const LOST = "The connection is lost; trying again …";
const REFUSALS = ["busy", "pace", "limit", "command", "ending", "store"];
const MAX_TRIES = 12; // of one message while the network is gone: about two minutes

// What the service said, or that it said nothing.
const reason = (error) => (error instanceof Problem ? sentence(error.message) : "nanochat cannot be reached.");

const newId = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
};

// --- a message of ours, from Enter to its last line -----------------------------------------------------------------------

// While the answer streams, the lines of its turn that the live stream brings are held back; when the turn is recorded they take
// this one's place, so that what is shown is what is in the file.
class Asking {
  constructor(conversation, text, { isRetry = false } = {}) {
    Object.assign(this, { conversation, key: conversation.key, text, isRetry, id: newId(), sourceId: "", held: [], isOver: false, isDone: false, tools: new Map(), proses: [], tries: 0 });
    this.mine = isRetry ? null : element("li", { class: "entry user" }, who("You", new Date()), element("div", { class: "said" }, text));
    this.status = element("p", { class: "waiting" }, "…");
    this.reply = element("li", { class: "entry reply streaming", "aria-busy": "true" }, who("nanochat", new Date()), this.status);
    this.abort = new AbortController();
    this.nodes = [this.mine, this.reply].filter(Boolean);
    conversation.append(this.nodes);
    this.run();
  }

  async run() {
    await this.conversation.ready; // so that its lines come by the live stream, which knows whose they are
    for (;;) {
      try {
        if (await this.post()) return;
        throw new TypeError("the answer broke off"); // the stream ended before its last event
      } catch (error) {
        if (this.isOver) return;
        if (error instanceof Problem && !(error.status >= 502 && !error.kind)) return this.fail(error); // without a kind it is a proxy's
        if (++this.tries > MAX_TRIES) return this.fail(new Error("nanochat cannot be reached"));
        this.say(LOST);
        await pause(backOffMs(this.tries - 1), this.abort.signal);
        if (this.isOver) return;
      }
    }
  }

  async post() {
    const idle = new AbortController();
    const response = await wire.request(`chat/stream/${encodeURIComponent(this.key)}`, {
      method: "POST",
      body: { message: this.text },
      headers: { "Idempotency-Key": this.id },
      signal: AbortSignal.any([this.abort.signal, idle.signal]),
    });
    for await (const { type, data } of eventsOf(response, idle)) {
      if (this.isOver) return true;
      this.tries = 0;
      if (this.take(type, JSON.parse(data))) return true;
    }
    return false;
  }

  // True for the last event.
  take(type, told) {
    if (this.isLeft) {
      this.close();
      return true;
    }
    switch (type) {
      case "session": this.sourceId = told.source_id; this.conversation.claimed(this); return false;
      case "restart": this.startOver(); return false;
      case "delta": this.say(""); this.prose().append(told.text); this.conversation.arrived(); return false;
      case "tool": this.tool(told); return false;
      case "error": this.fail(new Problem(told.status, told)); return true;
      case "done": this.done(told); return true;
      default: return false;
    }
  }

  say(text) {
    this.status.textContent = text;
    if (text) this.reply.append(this.status);
    else this.status.remove();
  }

  prose() {
    if (!this.current) {
      this.current = new Prose();
      this.proses.push(this.current);
      this.reply.append(this.current.node);
    }
    return this.current;
  }

  startOver() {
    this.current = null;
    this.proses = [];
    this.tools.clear();
    this.reply.replaceChildren(this.reply.firstChild);
    this.say("…");
  }

  tool(told) {
    if (told.state === "started") {
      this.say("");
      this.current?.finish();
      this.current = null; // what is said after a tool is a paragraph of its own
      const line = new ToolLine(told.name, told.title === told.name ? "" : told.title);
      this.tools.set(told.call_id, line);
      this.reply.append(line.node);
    } else this.tools.get(told.call_id)?.finish(told.ok, told.seconds, "");
    this.conversation.arrived();
  }

  done(told) {
    this.close();
    this.say("");
    if (!this.current && told.text && told.usage === null) this.prose().append(told.text);
    this.current?.finish();
    const mark = markLine(told.mark);
    if (mark) this.reply.append(mark);
    for (const notice of told.notices ?? []) this.reply.append(element("p", { class: "mark" }, notice));
    if (told.usage) this.reply.append(element("p", { class: "meta" }, [tokensLine(told.usage), money(told.cost_usd), `${told.seconds.toFixed(1)} s`].join(" · ")));
    else this.reply.classList.add("command");
    if (this.reply.childElementCount === 1) this.reply.remove();
    this.isDone = true;
    this.isRecorded = this.isRecorded || told.message_ids?.length === 0; // a command's answer is in no file
    this.conversation.answered(this, told);
  }

  // The page looks at another session now. What was taken goes on without us; what was not is still brought there.
  leaveAlone() {
    this.isLeft = true;
    if (this.sourceId) this.close();
  }

  fail(error) {
    this.close();
    if (this.isLeft) return this.conversation.onUnsent(this.key, this.text, error.message);
    // What the service refuses is nowhere; what the model fails at was written down before it was asked.
    this.isInFile = this.held.length > 0 || (this.sourceId !== "" && !REFUSALS.includes(error.kind));
    this.say("");
    this.current?.finish();
    this.conversation.failed(this, error);
  }

  close() {
    this.isOver = true;
    this.abort.abort();
    this.reply.classList.remove("streaming");
    this.reply.removeAttribute("aria-busy");
  }

  leave() { for (const node of this.nodes) node.remove(); }
}

// --- the session ----------------------------------------------------------------------------------------------------------

class Conversation {
  constructor({ onChange, onState, onUnsent, curve }) {
    Object.assign(this, { onChange, onState, onUnsent, curve });
    this.key = "";
    this.askings = [];
    this.transcript = new Transcript({ onStale: () => this.reload(), onTop: () => this.older() });
    this.transcript.olderButton.addEventListener("click", () => this.older());
    this.transcript.pill.addEventListener("click", () => this.toEnd());
  }

  async open(key) {
    this.close();
    this.key = key;
    const opening = (this.opening = {});
    this.transcript.clear();
    this.nothing("");
    await this.load(opening);
    if (this.opening !== opening) return;
    this.statsSoon(0);
  }

  close() {
    this.live?.stop();
    this.live = null;
    this.opening = null;
    for (const asking of this.askings) asking.leaveAlone();
    this.askings = [];
    this.begun?.();
    this.ready = new Promise((resolve) => { this.begun = resolve; });
    this.seenTo = -1;
    this.buffered = null;
    this.lastTurn = null;
    this.hasOpenTurn = false;
    clearTimeout(this.statsDue);
    this.statsDue = null;
    this.onState("");
    this.stateChanged();
  }

  async load(opening) {
    for (let attempt = 0; this.opening === opening; attempt++) {
      try {
        const [page, end] = await this.beginning();
        if (this.opening !== opening) return;
        this.transcript.addPage(page, false);
        this.nothing(page.messages.length ? "" : NOTHING);
        const last = page.messages.findLast((message) => !message.delivered);
        if (last && Date.now() - Date.parse(last.timestamp) < FRESH_MS) this.noteOpenTurn(last);
        this.seenTo = page.messages.at(-1)?.start ?? -1;
        this.follow(end);
        this.begun();
        return;
      } catch (error) {
        if (this.opening !== opening) return;
        if (error instanceof Problem && error.status === 422) {
          this.begun();
          return this.nothing(sentence(error.message));
        }
        this.onState("lost");
        for (const asking of this.askings) asking.say(LOST);
        await pause(backOffMs(attempt));
      }
    }
  }

  // The newest page, and from where on the lines are followed: after its last message, or where there is none, since all was
  // put behind a reset, from the size that the file had before we looked.
  async beginning() {
    const page = await this.history();
    if (page.messages.length) return [page, { after: page.messages.at(-1).start }];
    const { sessions } = await wire.json("sessions?limit=1000");
    const size = sessions.find((row) => row.key === this.key)?.size_bytes;
    const again = await this.history();
    if (again.messages.length) return [again, { after: again.messages.at(-1).start }];
    return [again, { from: size ?? "start" }];
  }

  async history(before) {
    const query = before == null ? "" : `&before=${before}`;
    try {
      return await wire.json(pathOf(this.key, `/history?limit=${PAGE}${query}`));
    } catch (error) {
      // A conversation that has not begun is one without messages.
      if (error instanceof Problem && error.status === 404) return { messages: [], before: null };
      throw error;
    }
  }

  follow(end) {
    const opening = this.opening;
    this.live?.stop();
    this.live = new Live(this.key, end, {
      onLine: (start, text) => this.opening === opening && this.line(start, text),
      onReplaced: () => this.opening === opening && this.replaced(),
      onState: (state, why) => this.onState(state, why),
    });
  }

  // --- lines --------------------------------------------------------------------------------------------------------

  line(start, text) {
    if (this.buffered) return void this.buffered.push([start, text]);
    this.seenTo = Math.max(this.seenTo, start);
    let record;
    try {
      record = JSON.parse(text);
    } catch {
      return; // a torn line costs itself
    }
    if (!record || typeof record !== "object") return;
    if (record._type === "metadata") this.event(start, record);
    else if (record._type === undefined && typeof record.role === "string") this.message({ source_id: "", ...record, start, n: record._n ?? start });
    this.onChange();
  }

  message(message) {
    const asking = this.askings.find((one) => one.sourceId && one.sourceId === message.source_id);
    this.noteOpenTurn(message);
    if (asking && !asking.isRecorded) return void asking.held.push(message);
    if (this.transcript.isCut) return this.transcript.showPill();
    if (this.transcript.addMessage(message)) {
      this.nothing("");
      this.arrived();
    }
  }

  event(start, record) {
    switch (record.op) {
      case "turn":
        this.lastTurn = record;
        this.turnEnded();
        this.recorded(record);
        this.transcript.endTurn(record);
        break;
      case "rewind":
        this.turnEnded();
        this.transcript.rewind(record.to, start);
        break;
      case "reset":
        this.turnEnded();
        this.divide(start, "reset", "New conversation");
        break;
      case "compact":
        this.divide(start, "compact", record.messages ? `${counted(record.messages, "older message")} now sent as a summary` : "Older messages are now sent as a summary");
        break;
      case "set":
        if (record.name === "model") this.divide(start, "set", `The model is now ${record.value || "the default"}`);
        else if (record.name === "system") this.divide(start, "set", "The system text was changed");
        break;
      default: return;
    }
    this.statsSoon();
  }

  divide(start, kind, text) {
    if (this.transcript.isCut) this.transcript.showPill();
    else if (this.transcript.divide(start, kind, text)) this.arrived();
  }

  replaced() {
    this.clear();
    this.seenTo = -1;
    this.buffered = null; // what is being read anew is of the old file
    this.nothing("The file of this session was put away; the next message begins a new one.");
    this.statsSoon();
  }

  // What was taken back reaches beyond what is loaded. Lines that come meanwhile are applied after.
  async reload() {
    if (this.buffered) return;
    const lines = (this.buffered = []);
    let page = null;
    for (let attempt = 0; !page && this.buffered === lines; attempt++) {
      try {
        page = await this.history();
      } catch {
        await pause(backOffMs(attempt));
      }
    }
    if (this.buffered !== lines) return; // the file was put away, or another session is open
    this.buffered = null;
    // What the live stream has still to bring, or has brought and is held back, is not ours to show.
    const held = new Set(this.askings.flatMap((asking) => asking.held.map((message) => message.start)));
    page.messages = page.messages.filter(({ start }) => start <= this.seenTo && !held.has(start));
    const tail = this.clear();
    this.transcript.addPage(page, false);
    this.nothing(page.messages.length || tail.length ? "" : NOTHING);
    for (const [start, text] of lines) this.line(start, text);
  }

  // Empty but for what is being asked.
  clear() {
    const tail = this.askings.flatMap((asking) => asking.nodes.filter((node) => node.isConnected));
    this.transcript.clear();
    this.append(tail);
    return tail;
  }

  async older() {
    const { transcript, opening } = this;
    if (transcript.before === null || !opening || this.paging === opening) return;
    this.paging = opening;
    let page = null;
    try {
      page = await this.history(transcript.before);
    } catch (error) {
      if (this.opening === opening) transcript.olderFailed(reason(error));
    }
    if (this.paging === opening) this.paging = null;
    if (!page || this.opening !== opening) return;
    transcript.addPage(page, true);
    transcript.look(); // one page may not fill the window
  }

  toEnd() {
    if (this.transcript.isCut) this.open(this.key);
    else this.transcript.toEnd();
  }

  // --- asking -------------------------------------------------------------------------------------------------------

  ask(text, options) {
    const wasCut = this.transcript.isCut;
    this.nothing("");
    this.transcript.sticks = true;
    this.askings.push(new Asking(this, text, options));
    if (wasCut) this.reload();
    this.transcript.toEnd();
    this.stateChanged();
  }

  append(nodes) {
    if (!nodes.length) return;
    this.transcript.log.append(...nodes);
    const { tail } = this.transcript;
    if (!tail?.isConnected) this.transcript.tail = nodes[0];
  }

  arrived() { this.transcript.arrived(); }

  // Lines of this turn may have come before we knew its name: the message commonly, and more where the answer to our first try
  // was lost. Then what streams is not shown, for the file tells it, but for a failure.
  claimed(asking) {
    this.onChange();
    const early = this.transcript.entries.filter((entry) => entry.sourceId === asking.sourceId);
    if (this.lastTurn?.source_id === asking.sourceId) asking.isRecorded = true;
    if (!early.length) return;
    if (early.some((entry) => entry.role === "assistant")) asking.leave();
    asking.mine?.remove();
    asking.mine = null;
  }

  recorded(record) {
    const asking = this.askings.find((one) => one.sourceId && one.sourceId === record.source_id);
    if (!asking) return;
    asking.isRecorded = true;
    asking.record = record;
    if (asking.isDone) this.swap(asking);
  }

  answered(asking, told) {
    this.stateChanged();
    this.onChange();
    if (asking.isRecorded) this.swap(asking);
    if (told.usage) announce("The answer is complete.");
    this.arrived();
  }

  // The lines of the file take the place of what was streamed. What no line tells stays: a command, its answer, a failure.
  swap(asking) {
    this.askings = this.askings.filter((one) => one !== asking);
    this.transcript.tail = this.askings.flatMap((one) => one.nodes).find((node) => node.isConnected) ?? null;
    if (asking.held.length) asking.leave();
    this.transcript.made = new Map(asking.proses.map((prose) => [prose.text, prose.node]));
    for (const message of asking.held) this.transcript.addMessage(message);
    this.transcript.made = new Map();
    if (asking.record) this.transcript.endTurn(asking.record);
    for (const node of asking.nodes) if (node.isConnected || node === asking.failure) this.transcript.putLast(node);
    this.arrived();
  }

  // It stays below the file's lines until its turn is recorded, if it ever was begun.
  failed(asking, error) {
    asking.isDone = true;
    asking.reply.remove();
    const isSenseless = error.kind === "command" || error.status === 422; // it would be refused for ever
    const retry = isSenseless ? null : element("button", { type: "button", class: "quiet", onclick: () => this.again(asking) }, "Try again");
    const text = sentence(error.message) + (error.retryAfterS ? ` Wait ${counted(error.retryAfterS, "second")}.` : "");
    asking.failure = element("li", { class: "entry failure", role: "alert" },
      element("p", { class: "error" }, text, error.errorId ? element("span", { class: "mark" }, ` (${error.errorId})`) : null), retry);
    asking.nodes = [asking.mine, asking.failure].filter(Boolean);
    if (asking.mine?.isConnected) asking.mine.after(asking.failure);
    else this.transcript.putLast(asking.failure);
    if (asking.isRecorded || !asking.isInFile) this.swap(asking);
    this.stateChanged();
    this.arrived();
  }

  // A question that is in the file is asked again by `/retry`, which takes the old one back; else it is a new message.
  again(asking) {
    asking.failure.remove();
    asking.failure = null;
    this.swap(asking);
    asking.mine?.remove(); // its line may be on the way still, and then stands for it
    this.ask(asking.isInFile ? "/retry" : asking.text, { isRetry: asking.isInFile || asking.isRetry });
    byId("message").focus();
  }

  async stop() {
    try {
      await wire.request(`chat/${encodeURIComponent(this.key)}`, { method: "POST", body: { message: "/stop" }, headers: { "Idempotency-Key": newId() } });
    } catch (error) {
      this.onState("refused", `Not stopped: ${reason(error)}`);
    }
  }

  // Whether a turn goes on that is not recorded yet. A session has one at a time, so the newest line tells: a turn is open from
  // the message, which names where it comes from, to its record.
  noteOpenTurn(message) {
    if (message.delivered) return;
    const isAsked = message.role === "user" || blocksOf(message.content).some((one) => one.type === "tool_use");
    this.hasOpenTurn = isAsked && message.source_id !== "";
    this.stateChanged();
  }

  turnEnded() {
    this.hasOpenTurn = false;
    this.stateChanged();
  }

  stateChanged() {
    const isOurs = this.askings.some((asking) => !asking.isOver);
    byId("stop").hidden = !isOurs && !this.hasOpenTurn;
    byId("hint").textContent = this.hasOpenTurn && !isOurs ? "An answer is being written" : "Enter sends, Shift+Enter makes a new line";
  }

  nothing(text) {
    byId("nothing").textContent = text;
    byId("nothing").hidden = !text;
  }

  // --- what it takes ------------------------------------------------------------------------------------------------

  statsSoon(ms = STATS_MS) {
    if (byId("usage").hidden || this.statsDue) return;
    const opening = this.opening;
    this.statsDue = setTimeout(async () => {
      this.statsDue = null;
      try {
        const stats = await wire.json(pathOf(this.key, "/stats"));
        if (this.opening !== opening) return;
        byId("figures").replaceChildren(...figures(stats));
        this.curve.show(stats.curve);
      } catch (error) {
        if (this.opening !== opening) return;
        this.curve.show([]);
        byId("figures").replaceChildren(element("p", { class: "mark" }, error.status === 404 ? "Nothing has been used yet." : reason(error)));
      }
    }, ms);
  }
}

