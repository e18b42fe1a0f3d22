// Making elements. A text only ever becomes a text node or an attribute, never markup.

const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null && child !== ""));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");

const counted = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;
const number = (n) => Math.round(n).toLocaleString("en");
const share = (part, whole) => (whole > 0 ? `${Math.round((100 * part) / whole)}%` : "0%");

function money(usd) {
  if (usd == null) return "price unknown";
  if (usd === 0) return "$0";
  return usd >= 1 ? `$${usd.toFixed(2)}` : `$${usd.toFixed(4)}`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const YEAR = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

function dayOf(at) {
  return (at.getFullYear() === new Date().getFullYear() ? DAY : YEAR).format(at);
}

// The time of today, the day of any other; `withClock` has both where the day is not today.
function timeElement(stamp, withClock) {
  const at = new Date(stamp);
  if (Number.isNaN(at.getTime())) return null;
  const isToday = at.toDateString() === new Date().toDateString();
  const text = isToday ? CLOCK.format(at) : withClock ? `${dayOf(at)}, ${CLOCK.format(at)}` : dayOf(at);
  return element("time", { datetime: at.toISOString(), title: FULL.format(at) }, text);
}

// For those who do not see the page; said again, the same words have to be new to be heard.
function announce(text) {
  byId("spoken").textContent = "";
  requestAnimationFrame(() => { byId("spoken").textContent = text; });
}

async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without TLS, off this machine, a page has no clipboard but this.
  const area = element("textarea", { class: "unseen", readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  if (!isDone) throw new Error("the browser does not let this page copy");
}

// What the browser keeps for this tab, or for this device; where it keeps nothing, this page does as long as it is open.
function keptIn(storage, name) {
  let here = "";
  return {
    get: () => { try { return storage().getItem(name) ?? ""; } catch { return here; } },
    set: (value) => {
      here = value;
      try { value ? storage().setItem(name, value) : storage().removeItem(name); } catch { /* it is kept here */ }
    },
  };
}
const inTab = (name) => keptIn(() => sessionStorage, name);
const onDevice = (name) => keptIn(() => localStorage, name);
