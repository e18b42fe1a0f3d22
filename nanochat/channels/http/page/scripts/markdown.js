// Markdown as elements, made from the lexer's tokens. HTML in a text is shown as the text that it is.

const MAX_MARKDOWN_CHARS = 200_000; // longer ones are shown as they stand: no reader waits for their tables
const MAX_DEPTH = 40;

const NAMED = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", ndash: "–", mdash: "—", hellip: "…", copy: "©",
  reg: "®", trade: "™", deg: "°", times: "×", middot: "·", bull: "•", larr: "←", rarr: "→", uarr: "↑", darr: "↓", le: "≤",
  ge: "≥", ne: "≠", plusmn: "±", laquo: "«", raquo: "»", euro: "€", pound: "£", sect: "§", para: "¶", infin: "∞" };

function withoutEntities(text) {
  return text.replace(/&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|([a-z]{2,6}));/g, (all, decimal, hex, name) => {
    if (name) return NAMED[name] ?? all;
    const code = decimal ? Number(decimal) : Number.parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : all;
  });
}

function safeLink(href) {
  const url = URL.canParse(href) ? new URL(href) : null;
  return url && ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
}

function link(href, title, children) {
  const safe = safeLink(href);
  if (!safe) return element("span", { class: "dead", title: href }, ...children);
  return element("a", { href: safe, title, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
}

function codeBlock(token) {
  const code = element("code", {}, token.text);
  const button = element("button", { type: "button", class: "copy", "aria-label": "Copy code" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await copyText(code.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied";
    }
    announce(button.textContent);
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  const name = (token.lang ?? "").trim().split(/\s/)[0].slice(0, 30);
  return element("div", { class: "code" },
    element("div", { class: "code-bar" }, element("span", {}, name), button),
    element("pre", { tabindex: "0", role: "region", "aria-label": name ? `Code, ${name}` : "Code" }, code));
}

function listItem(item, depth) {
  const made = element("li", { class: item.task ? "task" : null });
  const tokens = item.tokens ?? [];
  for (const token of tokens) {
    // A tight item's text is no paragraph of its own.
    if (token.type === "text" && !item.loose) made.append(...inline(token.tokens ?? [token], depth));
    else made.append(...blocks([token], depth));
  }
  return made;
}

function table(token, depth) {
  const cell = (tag) => (one, i) => element(tag, { class: token.align[i], scope: tag === "th" ? "col" : null }, ...inline(one.tokens, depth));
  return element("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" },
    element("table", {},
      element("thead", {}, element("tr", {}, ...token.header.map(cell("th")))),
      element("tbody", {}, ...token.rows.map((row) => element("tr", {}, ...row.map(cell("td")))))));
}

function block(token, depth) {
  switch (token.type) {
    case "space": case "def": return null;
    case "heading": return element(`h${Math.min(6, token.depth + 2)}`, {}, ...inline(token.tokens, depth));
    case "paragraph": return element("p", {}, ...inline(token.tokens, depth));
    case "text": return element("p", {}, ...inline(token.tokens ?? [token], depth));
    case "code": return codeBlock(token);
    case "blockquote": return element("blockquote", {}, ...blocks(token.tokens, depth));
    case "hr": return element("hr");
    case "list": {
      const start = token.ordered && Number.isInteger(token.start) && token.start !== 1 ? token.start : null;
      return element(token.ordered ? "ol" : "ul", { start }, ...token.items.map((item) => listItem(item, depth)));
    }
    case "table": return table(token, depth);
    case "checkbox": return element("input", { type: "checkbox", disabled: true, checked: token.checked, "aria-label": "done" });
    default: return element("p", { class: "plain" }, token.raw.trimEnd());
  }
}

function blocks(tokens, depth = 0) {
  if (depth > MAX_DEPTH) return [element("p", { class: "plain" }, tokens.map((token) => token.raw).join(""))];
  return tokens.map((token) => block(token, depth + 1)).filter(Boolean);
}

function span(token, depth) {
  const inner = () => inline(token.tokens ?? [], depth);
  switch (token.type) {
    case "strong": return element("strong", {}, ...inner());
    case "em": return element("em", {}, ...inner());
    case "del": return element("del", {}, ...inner());
    case "codespan": return element("code", {}, token.text);
    case "br": return element("br");
    case "escape": return token.text;
    case "link": return link(withoutEntities(token.href), token.title, inner());
    case "image": return link(withoutEntities(token.href), token.title, [`picture: ${token.text || token.href}`]);
    case "checkbox": return block(token, depth);
    case "html": return /^<br\s*\/?>$/i.test(token.raw) ? element("br") : token.raw;
    case "text": return token.tokens ? element("span", {}, ...inner()) : withoutEntities(token.text);
    default: return token.raw;
  }
}

function inline(tokens, depth) {
  if (depth > MAX_DEPTH) return [tokens.map((token) => token.raw).join("")];
  return tokens.map((token) => span(token, depth + 1));
}

function lex(text) {
  if (text.length <= MAX_MARKDOWN_CHARS) {
    try {
      return marked.lexer(text);
    } catch { /* nested beyond the parser's stack: then as it stands */ }
  }
  return [{ type: "plain", raw: text }];
}

// A second belt: whatever was made of a text is looked over in place before it is shown, by a list of all that may be in it. It
// finds nothing as long as no mistake is made above. No text becomes HTML here either, so no Trusted Types policy is wanted.
const PLAIN_ATTRIBUTES = ["class", "title", "target", "rel", "start", "scope", "tabindex", "role", "type", "disabled", "checked", "aria-label"];
DOMPurify.setConfig({
  IN_PLACE: true,
  ALLOWED_TAGS: ["#text", "a", "blockquote", "br", "button", "code", "del", "div", "em", "h3", "h4", "h5", "h6", "hr", "input", "li",
    "ol", "p", "pre", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"],
  ALLOWED_ATTR: ["href", ...PLAIN_ATTRIBUTES],
  ADD_URI_SAFE_ATTR: PLAIN_ATTRIBUTES, // not addresses; every other value has to be one
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOWED_NAMESPACES: ["http://www.w3.org/1999/xhtml"],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  TRUSTED_TYPES_POLICY: null,
});

function purified(node) {
  return node ? [...DOMPurify.sanitize(element("div", {}, node)).childNodes] : [];
}

// A text that may grow. Blocks that are finished are made once; while it grows, only its last two are looked at again, since
// what comes can still change them.
class Prose {
  constructor(text = "") {
    this.node = element("div", { class: "prose" });
    this.text = text.replace(/\r\n?/g, "\n");
    this.settledChars = 0;
    this.settled = 0;
    this.shown = [];
    this.due = 0;
    this.restUntil = 0;
    if (text) this.finish();
  }

  append(more) {
    this.text += more.replaceAll("\r", "");
    // A page that is not looked at is given no frames, and needs none before it is.
    this.due ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    const began = performance.now();
    if (began < this.restUntil) return void (this.due = requestAnimationFrame(() => this.draw()));
    this.due = 0;
    const tokens = lex(this.text.slice(this.settledChars)).filter((token) => token.raw);
    this.show(tokens, this.settled);
    this.settle(tokens);
    // One block may be a list of a thousand lines: it grows in larger steps, and the page stays quick.
    this.restUntil = began + 4 * (performance.now() - began);
  }

  settle(tokens) {
    const visible = tokens.filter((token) => token.type !== "space");
    if (visible.length <= 2) return;
    const open = tokens.indexOf(visible.at(-2));
    this.settledChars += tokens.slice(0, open).reduce((sum, token) => sum + token.raw.length, 0);
    this.settled += open;
  }

  // The whole once more. All of it is made anew where a link is explained below the place that names it.
  finish() {
    cancelAnimationFrame(this.due);
    this.due = this.settled = this.settledChars = 0;
    const tokens = lex(this.text);
    if (Object.keys(tokens.links ?? {}).length) this.show([], 0);
    this.show(tokens.filter((token) => token.raw), 0);
  }

  show(tokens, first) {
    let same = first;
    while (same - first < tokens.length && this.shown[same]?.raw === tokens[same - first].raw) same++;
    for (const { nodes } of this.shown.splice(same)) for (const node of nodes) node.remove();
    for (const token of tokens.slice(same - first)) {
      const nodes = purified(block(token, 0));
      this.node.append(...nodes);
      this.shown.push({ raw: token.raw, nodes });
    }
  }
}
