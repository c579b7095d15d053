// A conversation with the model, streamed. Everything is shown as text, never as markup.
"use strict";
const messages = [];
const element = (id) => document.getElementById(id);
let leaving = null;

function show(role, text) {
  const line = document.createElement("p");
  line.className = role;
  line.textContent = text;
  element("talk").append(line);
  return line;
}

// The data of each server-sent event.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}

async function answer() {
  const line = show("assistant", "");
  leaving = new AbortController();
  element("stop").hidden = false;
  try {
    const response = await fetch("v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ messages, stream: true }),
      signal: leaving.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const data of events(response.body)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      line.textContent += chunk.choices[0]?.delta.content ?? "";
    }
  } catch (error) {
    if (error.name !== "AbortError") show("error", error.message);
  }
  element("stop").hidden = true;
  messages.push({ role: "assistant", content: line.textContent });
}

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const content = element("text").value;
  element("text").value = "";
  messages.push({ role: "user", content });
  show("user", content);
  answer();
});
element("stop").addEventListener("click", () => leaving?.abort());
fetch("v1/models").then((response) => response.json()).then((models) => {
  element("model").textContent = models.data[0].id;
}).catch(() => {});
