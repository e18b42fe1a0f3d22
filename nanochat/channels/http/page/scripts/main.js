// The page: which session is open, the keys, the drawer, light and dark.

const theme = onDevice("nanochat-theme");
const drafts = inTab("nanochat-drafts");
const THEMES = { "": "Auto: light or dark as the system", light: "Light, whatever the system", dark: "Dark, whatever the system" };
const narrow = window.matchMedia("(max-width: 760px)");

function showTheme() {
  const chosen = Object.hasOwn(THEMES, theme.get()) ? theme.get() : "";
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  byId("theme").textContent = { "": "Auto", light: "Light", dark: "Dark" }[chosen];
  byId("theme").setAttribute("aria-label", THEMES[chosen]);
  byId("theme").title = THEMES[chosen];
}
showTheme();
byId("theme").addEventListener("click", () => {
  const order = Object.keys(THEMES);
  theme.set(order[(order.indexOf(theme.get()) + 1) % order.length]);
  showTheme();
});

// --- the open session -----------------------------------------------------------------------------------------------------

const curve = new Curve(byId("curve"), byId("readout"));
const conversation = new Conversation({ curve, onChange: () => list.soon(), onState: showState, onUnsent: keepUnsent });
const list = new SessionList({ onCounts: showTitle });
let unread = 0;

function showTitle(count = unread) {
  unread = count;
  document.title = `${count ? `(${count}) ` : ""}${conversation.key ? `${conversation.key} · ` : ""}nanochat`;
}

function showState(state, why = "") {
  const place = byId("link-state");
  place.textContent = why || (state === "lost" ? "Reconnecting …" : "");
  place.title = place.textContent;
  place.className = state;
}

const field = byId("message");

function openSession(key) {
  keepDraft();
  conversation.open(key);
  list.open(key);
  byId("title").textContent = key;
  field.value = draftsNow()[key] ?? "";
  grow();
  showTitle();
  closeDrawer();
  if (!narrow.matches) field.focus();
}

function begin() {
  location.hash = hashOf(`http:${newId()}`);
  field.focus();
}

function followHash() {
  const key = keyInHash();
  if (key && key !== conversation.key) openSession(key);
}
window.addEventListener("hashchange", followHash);

// The address stays the session's.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  field.focus();
});

byId("begin").addEventListener("click", begin);

// --- writing --------------------------------------------------------------------------------------------------------------

function draftsNow() {
  try {
    return JSON.parse(drafts.get() || "{}");
  } catch {
    return {};
  }
}

function keepDraft(key = conversation.key, text = field.value) {
  if (!key) return;
  const all = draftsNow();
  if (text) all[key] = text;
  else delete all[key];
  drafts.set(JSON.stringify(all));
}

// What was sent from a session that was left since, and was refused there, waits there to be sent again.
function keepUnsent(key, text, why) {
  if (key === conversation.key) {
    field.value ||= text;
    grow();
  } else if (!draftsNow()[key]) keepDraft(key, text);
  showState("refused", `Not sent to ${key}: ${sentence(why)}`);
}

function grow() {
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, window.innerHeight * 0.4)}px`;
}

let lastSaid = "";

function send(event) {
  event?.preventDefault();
  const text = field.value.trim();
  if (!text) return;
  if (!conversation.key) begin();
  followHash(); // the event of a change comes later
  conversation.ask(text);
  lastSaid = text;
  field.value = "";
  keepDraft();
  grow();
}

byId("composer").addEventListener("submit", send);
byId("stop").addEventListener("click", () => { conversation.stop(); field.focus(); });
field.addEventListener("input", grow);
window.addEventListener("pagehide", () => keepDraft());
field.addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229) return; // Enter belongs to the input method; Safari tells it by the code only
  if (event.key === "Enter" && !event.shiftKey && !event.altKey) send(event);
  else if (event.key === "ArrowUp" && !field.value && lastSaid) {
    event.preventDefault();
    field.value = lastSaid;
    grow();
  }
});

// --- a new conversation in the same session -------------------------------------------------------------------------------

const dialog = byId("ask");

byId("reset").addEventListener("click", () => {
  if (!conversation.key) return;
  byId("ask-text").textContent = `What was said in ${conversation.key} so far is no longer sent to the model. Nothing is deleted, and /undo goes back.`;
  dialog.showModal();
});
byId("ask-no").addEventListener("click", () => dialog.close());
byId("ask-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  dialog.close();
  try {
    await wire.request(pathOf(conversation.key), { method: "DELETE" });
    showState("");
  } catch (error) {
    showState("refused", error.status === 404 ? "It has not begun yet" : reason(error));
  }
  field.focus();
});

// --- usage, drawer, keys --------------------------------------------------------------------------------------------------

byId("open-usage").addEventListener("click", () => {
  const usage = byId("usage");
  usage.hidden = !usage.hidden;
  byId("open-usage").setAttribute("aria-expanded", String(!usage.hidden));
  if (conversation.key) conversation.statsSoon(0);
});

const drawer = byId("drawer");

function openDrawer() {
  document.body.classList.add("drawer-open");
  byId("veil").hidden = false;
  byId("open-drawer").setAttribute("aria-expanded", "true");
  placeDrawer();
  byId("filter").focus();
}

function closeDrawer() {
  const hasFocus = drawer.contains(document.activeElement);
  const wasOpen = document.body.classList.contains("drawer-open");
  document.body.classList.remove("drawer-open");
  byId("veil").hidden = true;
  byId("open-drawer").setAttribute("aria-expanded", "false");
  placeDrawer();
  if (wasOpen && hasFocus) byId("open-drawer").focus();
}

// Out of sight is out of reach: neither Tab nor a screen reader may get behind what is open.
function placeDrawer() {
  const isOpen = document.body.classList.contains("drawer-open");
  drawer.inert = narrow.matches && !isOpen;
  byId("main").inert = narrow.matches && isOpen;
}

byId("open-drawer").addEventListener("click", openDrawer);
byId("veil").addEventListener("click", closeDrawer);
narrow.addEventListener("change", closeDrawer);
placeDrawer();

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if (document.body.classList.contains("drawer-open")) closeDrawer();
    else field.focus();
  } else if (event.key === "k" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (narrow.matches) openDrawer();
    else byId("filter").focus();
  }
});

// The first look: the session in the address, or the one that was spoken in last.
if (keyInHash()) followHash();
else {
  conversation.nothing("Write below to begin a session, or choose one.");
  list.first.then((rows) => { if (!conversation.key && rows.length) location.replace(hashOf(rows[0].key)); });
}
