// The page: conversations at the left, messages, and the field below them.

import { answer, model as servedModel } from "./api.js";
import { render } from "./markdown.js";
import { DEFAULTS, loadConversations, loadSettings, saveConversations, saveSettings } from "./store.js";

const $ = (id) => document.getElementById(id);
const log = $("log"), input = $("input"), send = $("send"), stop = $("stop");

let conversations = loadConversations();
let current = null;
let settings = loadSettings();
let modelName = "";
/** The answer that is arriving: { controller, conversation, message }. */
let running = null;

// --- Small things.

function make(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(text, label, act) {
  const made = make("button", "", text);
  made.type = "button";
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

function tell(text) {
  $("status").textContent = text;
}

async function copy(text, from) {
  const before = from.textContent;
  try {
    await navigator.clipboard.writeText(text);
    from.textContent = "Copied";
  } catch {
    from.textContent = "Could not copy";
  }
  setTimeout(() => { from.textContent = before; }, 1500);
}

function keep() {
  const dropped = saveConversations(conversations);
  if (dropped) tell(`The browser has no more room: the oldest ${dropped} conversations were deleted.`);
}

function applyTheme() {
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
}

// --- Conversations.

function newConversation() {
  current = null;
  show();
  closeSidebar();
  input.focus();
}

function openConversation(conversation) {
  current = conversation;
  show();
  closeSidebar();
  input.focus();
}

function deleteConversation(conversation) {
  if (running?.conversation === conversation) running.controller.abort();
  conversations = conversations.filter((other) => other !== conversation);
  if (current === conversation) current = null;
  keep();
  show();
}

function titleOf(text) {
  const line = text.trim().split("\n")[0];
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

function showConversations() {
  const rows = conversations.map((conversation) => {
    const row = make("div", "conversation");
    const open = button(conversation.title, "", () => openConversation(conversation));
    open.className = "open";
    open.title = conversation.title;
    if (conversation === current) {
      row.classList.add("current");
      open.setAttribute("aria-current", "true");
    }
    const remove = button("×", `Delete “${conversation.title}”`, () => deleteConversation(conversation));
    remove.className = "delete";
    row.append(open, remove);
    return row;
  });
  $("conversations").replaceChildren(...rows);
}

// --- Messages.

function show() {
  $("title").textContent = current?.title ?? "New conversation";
  document.title = current ? `${current.title} · anegpt` : "anegpt";
  showConversations();
  showBusy();
  if (!current) return log.replaceChildren(welcome());
  log.replaceChildren(...rows(current));
  log.scrollTop = log.scrollHeight;
}

function welcome() {
  const box = make("div", "welcome");
  box.append(make("h2", "", "What shall we talk about?"));
  box.append(make("p", "soft", "Everything runs on the machine that serves this page."));
  const ideas = make("div", "ideas");
  for (const idea of ["Tell me a story about a small robot.", "Why is the sky blue?", "Once upon a time"])
    ideas.append(button(idea, "", () => { input.value = idea; grow(); input.focus(); }));
  box.append(ideas);
  return box;
}

/** The messages, and where the model's memory begins. */
function rows(conversation) {
  const all = conversation.messages.map(shown);
  const first = conversation.messages.findIndex((message) => !message.forgotten);
  if (first > 0) all.splice(first, 0, forgottenNote());
  return all;
}

function forgottenNote() {
  const note = make("p", "forgotten", "The model’s context is full: it no longer reads the messages above.");
  note.setAttribute("role", "note");
  return note;
}

function shown(message) {
  const box = make("article", `message ${message.role}`);
  box.setAttribute("aria-label", message.role === "user" ? "You" : "Answer");
  fill(box, message);
  return box;
}

function fill(box, message) {
  const body = make("div", "body");
  if (message.role === "user") body.textContent = message.content;
  else body.append(render(message.content));
  box.replaceChildren();
  if (message.content || running?.message === message) box.append(body);
  body.classList.toggle("waiting", running?.message === message);
  if (message.fault) box.append(make("div", "fault", message.fault));
  const tools = make("div", "tools");
  if (running?.message !== message) addTools(tools, box, message);
  box.append(tools);
}

function addTools(tools, box, message) {
  const copyIt = button("Copy", "Copy this message", () => copy(message.content, copyIt));
  if (message.content) tools.append(copyIt);
  if (message.role === "user") {
    tools.append(button("Edit", "Edit this message and send it again", () => edit(box, message)));
    return;
  }
  if (current?.messages.at(-1) === message)
    tools.append(button(message.fault ? "Try again" : "Regenerate", "", () => regenerate(message)));
  if (message.told) tools.append(make("span", "told", message.told));
}

function edit(box, message) {
  const field = make("textarea");
  field.value = message.content;
  field.rows = Math.min(12, message.content.split("\n").length + 1);
  field.setAttribute("aria-label", "The message");
  const tools = make("div", "tools");
  const cancel = () => fill(box, message);
  const resend = () => {
    const text = field.value.trim();
    if (!text || running) return;
    current.messages.length = current.messages.indexOf(message);
    // There may be room again.
    for (const earlier of current.messages) delete earlier.forgotten;
    ask(text);
  };
  tools.append(button("Send", "Send the edited message", resend), button("Cancel", "", cancel));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); cancel(); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); resend(); }
  });
  box.replaceChildren(field, tools);
  field.focus();
}

function regenerate(message) {
  if (running) return;
  current.messages.length = current.messages.indexOf(message);
  respond();
}

// --- Asking.

function ask(text) {
  if (!current) {
    current = { id: crypto.randomUUID?.() ?? String(Date.now()), title: titleOf(text), messages: [] };
    conversations.unshift(current);
  } else {
    conversations = [current, ...conversations.filter((other) => other !== current)];
    if (!current.messages.length) current.title = titleOf(text);
  }
  current.messages.push({ role: "user", content: text });
  keep();
  respond();
}

/** The messages that the model reads: questions that were answered, with their answers, and the last question. */
function remembered(conversation) {
  const all = conversation.messages;
  const answered = (message) => !message || (message.role === "assistant" && message.content && !message.fault);
  const counts = (message, at) => !message.forgotten && answered(message.role === "user" ? all[at + 1] : message);
  return all.filter(counts);
}

/** What the model reads: the system message and these. */
function prompt(said) {
  const messages = said.map(({ role, content }) => ({ role, content }));
  return settings.system.trim() ? [{ role: "system", content: settings.system.trim() }, ...messages] : messages;
}

async function respond() {
  const conversation = current;
  const said = remembered(conversation);
  const message = { role: "assistant", content: "" };
  conversation.messages.push(message);
  running = { controller: new AbortController(), conversation, message };
  show();
  tell("The answer begins.");
  const clock = { first: 0, tokens: 0 };
  try {
    modelName ||= await servedModel(settings);
    for await (const part of answer(prompt(said), modelName, settings, running.controller.signal)) {
      if (part.forgotten) {
        for (const old of conversation.messages.slice(0, conversation.messages.indexOf(said[part.forgotten]))) old.forgotten = true;
        if (current === conversation) show();
      }
      if (part.text) {
        clock.first ||= performance.now();
        message.content += part.text;
        draw(conversation, message);
      }
      if (part.finish) message.finish = part.finish;
      if (part.usage) clock.tokens = part.usage.completion_tokens;
    }
    message.told = told(message, clock);
  } catch (error) {
    if (error.name === "AbortError") message.told = "stopped";
    else {
      message.fault = error.message || "The server cannot be reached.";
      if (error.status === 401) message.fault += " The key goes into the settings.";
    }
  }
  running = null;
  keep();
  if (current === conversation) {
    const near = isNearEnd();
    log.replaceChildren(...rows(conversation));
    if (near) log.scrollTop = log.scrollHeight;
  }
  showBusy();
  tell(message.fault ? message.fault : "The answer is complete.");
}

function told(message, clock) {
  const seconds = (performance.now() - clock.first) / 1000;
  const parts = [];
  if (clock.tokens) {
    parts.push(`${clock.tokens} tokens`);
    if (clock.first && clock.tokens > 1 && seconds > 0) {
      const rate = (clock.tokens - 1) / seconds;
      parts.push(`${rate < 10 ? rate.toFixed(1) : Math.round(rate)} tokens/s`);
    }
  }
  if (message.finish === "length") parts.push("cut short");
  return parts.join(" · ");
}

let drawing = false;

/** Draws the answer that is arriving, at most once per frame. */
function draw(conversation, message) {
  if (drawing || current !== conversation) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (current !== conversation || running?.message !== message) return;
    const near = isNearEnd();
    fill(log.lastElementChild, message);
    if (near) log.scrollTop = log.scrollHeight;
    showEndButton();
  });
}

function isNearEnd() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 80;
}

function showEndButton() {
  $("to-end").hidden = isNearEnd();
}

function showBusy() {
  const busy = running !== null;
  send.hidden = busy;
  stop.hidden = !busy;
}

// --- The field.

function grow() {
  input.rows = 1;
  const line = parseFloat(getComputedStyle(input).lineHeight);
  input.rows = Math.max(1, Math.min(10, Math.round((input.scrollHeight - 20) / line)));
}

function submit() {
  const text = input.value.trim();
  if (!text || running) return;
  input.value = "";
  grow();
  ask(text);
}

$("composer").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
input.addEventListener("input", grow);
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
});
stop.addEventListener("click", () => { running?.controller.abort(); input.focus(); });
log.addEventListener("scroll", showEndButton);
$("to-end").addEventListener("click", () => { log.scrollTop = log.scrollHeight; });
log.addEventListener("click", (event) => {
  const from = event.target.closest("button[data-copy]");
  if (from) copy(from.dataset.copy, from);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running && !$("settings").open) running.controller.abort();
  if (event.key === "Escape") closeSidebar();
  if ((event.ctrlKey || event.metaKey) && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    newConversation();
  }
});
$("new").addEventListener("click", newConversation);

// --- The sidebar of narrow windows.

function openSidebar() {
  $("sidebar").classList.add("open");
  $("shade").hidden = false;
  $("open-sidebar").setAttribute("aria-expanded", "true");
  $("new").focus();
}

function closeSidebar() {
  $("sidebar").classList.remove("open");
  $("shade").hidden = true;
  $("open-sidebar").setAttribute("aria-expanded", "false");
}

$("open-sidebar").addEventListener("click", openSidebar);
$("shade").addEventListener("click", closeSidebar);

// --- Settings.

const FIELDS = ["system", "temperature", "top_p", "top_k", "max_tokens", "seed", "theme", "key"];

$("open-settings").addEventListener("click", () => {
  for (const name of FIELDS) $(`set-${name}`).value = settings[name] ?? "";
  $("settings").returnValue = "";
  $("settings").showModal();
});
$("cancel-settings").addEventListener("click", () => $("settings").close(""));

$("settings").addEventListener("close", () => {
  if ($("settings").returnValue !== "save") return;
  for (const name of FIELDS) {
    const { value, type } = $(`set-${name}`);
    const number = type === "number" && value !== "" && Number.isFinite(Number(value));
    settings[name] = type === "number" ? (number ? Number(value) : DEFAULTS[name]) : value;
  }
  saveSettings(settings);
  applyTheme();
  findModel();
});

$("delete-all").addEventListener("click", () => {
  if (!confirm("Delete all conversations from this browser?")) return;
  running?.controller.abort();
  conversations = [];
  current = null;
  keep();
  show();
  $("settings").close("");
});

async function findModel() {
  try {
    modelName = await servedModel(settings);
    $("model").textContent = modelName;
    $("model").title = modelName;
  } catch (error) {
    $("model").textContent = error.status === 401 ? "asks for a key" : "not reached";
  }
}

applyTheme();
show();
findModel();
input.focus();
