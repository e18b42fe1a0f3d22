// What a conversation takes, turn by turn: what was read from the cache, what was read anew, what was written, and the money.

const PLOT = { height: 150, left: 46, right: 52, top: 8, bottom: 20 };
const MAX_BARS = 400; // the newest; more would be thinner than a pixel

const freshOf = (usage) => usage.input + usage.cache_write + (usage.cache_write_1h ?? 0);
const promptOf = (usage) => freshOf(usage) + usage.cache_read;

function short(n) {
  if (n >= 1_000_000) return `${+(n / 1_000_000).toFixed(1)}M`;
  return n >= 1000 ? `${+(n / 1000).toFixed(1)}k` : String(Math.round(n));
}

// The next number above `n` that a person would put on an axis.
function ceiling(n) {
  if (n <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 4, 5, 10].find((step) => step * unit >= n) * unit;
}

class Curve {
  constructor(place, readout) {
    Object.assign(this, { place, readout, points: [], chosen: -1 });
    new ResizeObserver(() => this.draw()).observe(place);
  }

  show(curve) {
    let spent = 0;
    const all = curve.map((turn) => ({ ...turn, spent: (spent += turn.cost_usd ?? 0) }));
    const at = this.points[this.chosen]?.at;
    this.points = all.slice(-MAX_BARS);
    this.chosen = this.points.findIndex((turn) => turn.at === at);
    this.draw();
  }

  draw() {
    const width = Math.floor(this.place.clientWidth);
    if (!this.points.length || width < 120) {
      this.readout.replaceChildren();
      return this.place.replaceChildren();
    }
    const { height, left, right, top, bottom } = PLOT;
    const inner = { width: width - left - right, height: height - top - bottom };
    const most = ceiling(Math.max(...this.points.map((turn) => promptOf(turn) + turn.output)));
    const dearest = Math.max(...this.points.map((turn) => turn.spent));
    const dear = dearest > 0 ? ceiling(dearest) : 0;
    const step = inner.width / this.points.length;
    const bar = Math.max(0.6, Math.min(22, step * 0.72));
    this.x = (i) => left + step * (i + 0.5);
    const y = (tokens) => top + inner.height * (1 - tokens / most);

    // One path per kind: a thousand turns are three elements.
    const column = (from, to) => this.points
      .map((turn, i) => `M${this.x(i) - bar / 2} ${y(from(turn))}h${bar}V${y(to(turn))}h${-bar}z`).join("");
    const cached = (turn) => turn.cache_read;
    const read = (turn) => promptOf(turn);
    const both = (turn) => promptOf(turn) + turn.output;
    const plot = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, tabindex: "0", role: "img", "aria-label": this.summary() });
    for (const at of [0, 0.5, 1]) {
      const level = y(most * at);
      plot.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: level, y2: level }));
      plot.append(drawn("text", { class: "tick", x: left - 6, y: level + 4, "text-anchor": "end" }, short(most * at)));
      if (dear) plot.append(drawn("text", { class: "tick cost", x: width - right + 6, y: level + 4 }, `$${+(dear * at).toPrecision(2)}`));
    }
    plot.append(
      drawn("path", { class: "cached", d: column(() => 0, cached) }),
      drawn("path", { class: "fresh", d: column(cached, read) }),
      drawn("path", { class: "written", d: column(read, both) }));
    if (dear) {
      const line = this.points.map((turn, i) => `${i ? "L" : "M"}${this.x(i)} ${top + inner.height * (1 - turn.spent / dear)}`).join("");
      plot.append(drawn("path", { class: "cost", d: line }));
    }
    this.marker = drawn("line", { class: "marker", y1: top, y2: height - bottom, x1: -9, x2: -9 });
    plot.append(this.marker, ...this.days(width, height));
    plot.addEventListener("pointermove", (event) => this.choose(Math.floor((event.offsetX - left) / step)));
    plot.addEventListener("pointerleave", () => this.choose(-1));
    plot.addEventListener("keydown", (event) => this.key(event));
    plot.addEventListener("blur", () => this.choose(-1));
    const hadFocus = this.place.contains(document.activeElement);
    const { chosen } = this; // losing the focus lets it go
    this.place.replaceChildren(plot, legend(dear > 0));
    if (hadFocus) plot.focus({ preventScroll: true });
    return this.choose(chosen);
  }

  days(width, height) {
    const first = new Date(this.points[0].at);
    const last = new Date(this.points.at(-1).at);
    if (Number.isNaN(first.getTime()) || Number.isNaN(last.getTime())) return [];
    const label = (at) => (first.toDateString() === last.toDateString() ? CLOCK.format(at) : dayOf(at));
    const y = height - 4;
    const begin = drawn("text", { class: "tick", x: PLOT.left, y }, label(first));
    if (this.points.length < 2) return [begin];
    return [begin, drawn("text", { class: "tick", x: width - PLOT.right, y, "text-anchor": "end" }, label(last))];
  }

  key(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const from = this.chosen < 0 ? (move < 0 ? this.points.length : -1) : this.chosen;
    this.choose(Math.max(0, Math.min(this.points.length - 1, from + move)));
  }

  choose(i) {
    const turn = this.points[i];
    this.chosen = turn ? i : -1;
    const x = turn ? this.x(i) : -9;
    this.marker.setAttribute("x1", x);
    this.marker.setAttribute("x2", x);
    this.readout.replaceChildren();
    if (!turn) return;
    const what = turn.kind === "compact" ? "summary written, " : "";
    const origin = turn.origin && turn.origin !== "owner" ? `, by ${turn.origin}` : "";
    this.readout.append(timeElement(turn.at, true) ?? "", ` · ${what}${tokensLine(turn)} · ${money(turn.cost_usd)}${origin}`);
  }

  summary() {
    const last = this.points.at(-1);
    return `${counted(this.points.length, "turn")}; the last read ${number(promptOf(last))} tokens, ` +
      `${share(last.cache_read, promptOf(last))} of them from the cache. Arrow keys step through the turns.`;
  }
}

function tokensLine(usage) {
  return `${number(promptOf(usage))} in, ${share(usage.cache_read, promptOf(usage))} from cache · ${number(usage.output)} out`;
}

function legend(hasCost) {
  const entry = (kind, text) => element("span", {}, element("i", { class: kind }), text);
  return element("p", { class: "legend" }, entry("cached", "read from cache"), entry("fresh", "read anew"), entry("written", "written"),
    hasCost ? entry("cost", "cost so far") : null);
}

function figures(stats) {
  const { usage } = stats;
  const all = promptOf(usage);
  const over = stats.budget_tokens > 0;
  const figure = (name, value, extra) => element("div", {}, element("dt", {}, name), element("dd", {}, value, extra));
  const meter = over ? element("meter", { min: 0, max: stats.budget_tokens, value: stats.context_tokens, high: stats.budget_tokens * 0.9,
    "aria-label": "Context used" }) : null;
  return [
    figure("Context", `${number(stats.context_tokens)}${over ? ` of ${number(stats.budget_tokens)}` : ""}`, meter),
    figure("Turns", number(stats.turns)),
    figure("Messages", number(stats.messages)),
    figure("Tokens read", `${number(all)}, ${share(usage.cache_read, all)} from cache`),
    figure("Tokens written", number(usage.output)),
    figure("Cost", money(stats.cost_usd)),
    stats.model ? figure("Model", stats.model) : null,
  ].filter(Boolean);
}
