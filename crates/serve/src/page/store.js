// What the browser keeps: conversations and settings.

const CONVERSATIONS = "anegpt.conversations";
const SETTINGS = "anegpt.settings";

export const DEFAULTS = {
  system: "", temperature: 0.7, top_p: 1, top_k: 0, max_tokens: 512, seed: null, theme: "", key: "",
};

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Conversations, newest first: { id, title, messages: [{ role, content, … }] }. */
export function loadConversations() {
  const all = read(CONVERSATIONS, []);
  return Array.isArray(all) ? all.filter((one) => one && Array.isArray(one.messages)) : [];
}

/** Writes all; the oldest go where the browser has no room. Returns how many went. */
export function saveConversations(all) {
  for (let dropped = 0; ; dropped += 1) {
    try {
      localStorage.setItem(CONVERSATIONS, JSON.stringify(all));
      return dropped;
    } catch {
      if (all.length <= 1) return dropped;
      all.pop();
    }
  }
}

export function loadSettings() {
  return { ...DEFAULTS, ...read(SETTINGS, {}) };
}

export function saveSettings(settings) {
  localStorage.setItem(SETTINGS, JSON.stringify(settings));
}
