// The server's interface, as this page uses it.

function headers(settings) {
  const all = { "Content-Type": "application/json" };
  if (settings.key) all.Authorization = `Bearer ${settings.key}`;
  return all;
}

async function fault(response) {
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message ?? message;
  } catch { /* The status is all there is. */ }
  const made = new Error(message);
  made.status = response.status;
  return made;
}

/** The name of the model that is served. */
export async function model(settings) {
  const response = await fetch("v1/models", { headers: headers(settings) });
  if (!response.ok) throw await fault(response);
  return (await response.json()).data[0]?.id ?? "";
}

/** Yields { text }, { finish } and { usage } of an answer as they arrive; before them { forgotten }, the number of
    messages that were left out because they do not fit, if any were. */
export async function* answer(messages, modelName, settings, signal) {
  const body = {
    model: modelName, messages, stream: true, stream_options: { include_usage: true },
    temperature: settings.temperature, top_p: settings.top_p, max_tokens: settings.max_tokens,
    // The oldest turns are forgotten when the context is full.
    truncation: "auto",
  };
  if (settings.top_k > 0) body.top_k = settings.top_k;
  if (settings.seed !== null) body.seed = settings.seed;
  const response = await fetch("v1/chat/completions", {
    method: "POST", headers: headers(settings), body: JSON.stringify(body), signal,
  });
  if (!response.ok) throw await fault(response);
  const forgotten = Number(response.headers.get("anegpt-forgotten-messages"));
  if (forgotten) yield { forgotten };
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message ?? "The answer broke off.");
    const choice = chunk.choices?.[0];
    if (choice?.delta?.content) yield { text: choice.delta.content };
    if (choice?.finish_reason) yield { finish: choice.finish_reason };
    if (chunk.usage) yield { usage: chunk.usage };
  }
}

/** The data of server-sent events. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length) yield data.join("\n");
    }
  }
}
