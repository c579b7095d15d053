// Drives the page of `anegpt serve` in headless Chromium through a conversation, and fails on a console
// message, a request to anywhere else, or anything that is not as it should be.
// node scripts/page.mjs URL SHORT [DIRECTORY FOR SCREENSHOTS], where SHORT serves a context of 256 tokens; needs playwright-core, and CHROMIUM=path if it is
// not /usr/bin/chromium.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const [url, short, pictures] = process.argv.slice(2);
if (pictures) mkdirSync(pictures, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
});
const context = await browser.newContext({ viewport: { width: 1100, height: 760 } });
const page = await context.newPage();
const faults = [];
page.on("console", (message) => faults.push(`console: ${message.text()}`));
page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
page.on("request", (request) => {
  if (![url, short].some((own) => new URL(request.url()).origin === new URL(own).origin)) faults.push(`foreign request: ${request.url()}`);
});
const answers = page.locator(".message.assistant");
const questions = page.locator(".message.user");
const picture = async (name) => pictures && page.screenshot({ path: `${pictures}/${name}.png` });
const finished = () => page.locator("#send:not([hidden])").waitFor();
const said = async (place) => (await place.locator(".body").innerText()).trim();

async function step(name, act) {
  await act();
  assert.deepEqual(faults, [], name);
  console.log(`ok: ${name}`);
}

await step("the page loads and names the model", async () => {
  await page.goto(url);
  await page.locator(".welcome").waitFor();
  await page.waitForFunction(() => document.getElementById("model").textContent.length > 0);
  await picture("welcome");
});

await step("an answer streams and is told with its speed", async () => {
  await page.locator("#input").fill("Once upon a time");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector(".message.assistant .body")?.textContent.length > 0);
  await finished();
  assert.equal(await questions.count(), 1);
  assert.match(await answers.last().locator(".told").innerText(), /\d+ tokens/);
  await picture("conversation");
});

await step("what is typed stays text", async () => {
  await page.locator("#input").fill("<img src=x onerror=alert(1)> **bold** `code`");
  await page.locator("#send").click();
  await finished();
  assert.equal(await said(questions.last()), "<img src=x onerror=alert(1)> **bold** `code`");
  assert.equal(await page.locator("#log img").count(), 0);
});

await step("an answer is stopped, and what came stays", async () => {
  await page.locator("#input").fill("Tell me a very long story");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => [...document.querySelectorAll(".message.assistant .body")].at(-1).textContent.length > 3);
  await page.keyboard.press("Escape");
  await finished();
  const before = await said(answers.last());
  assert.ok(before.length > 3);
  assert.equal(await answers.last().locator(".told").innerText(), "stopped");
  await page.waitForTimeout(300);
  assert.equal(await said(answers.last()), before);
});

await step("a message is edited and sent again; what followed goes", async () => {
  await questions.nth(1).hover();
  await questions.nth(1).getByRole("button", { name: /^Edit/ }).click();
  await page.locator(".message textarea").fill("A second beginning");
  await page.keyboard.press("Enter");
  await finished();
  assert.equal(await questions.count(), 2);
  assert.equal(await said(questions.last()), "A second beginning");
});

await step("the last answer is regenerated", async () => {
  const count = await answers.count();
  await answers.last().getByRole("button", { name: "Regenerate" }).click();
  await finished();
  assert.equal(await answers.count(), count);
});

await step("a reload keeps the conversation", async () => {
  const texts = await questions.allInnerTexts();
  await page.reload();
  await page.locator(".conversation .open").first().click();
  assert.deepEqual(await questions.allInnerTexts(), texts);
});

await step("settings are kept, with a system message and colours", async () => {
  await page.locator("#open-settings").click();
  await page.locator("#set-system").fill("You are brief.");
  await page.locator("#set-temperature").fill("0");
  await page.locator("#set-max_tokens").fill("12");
  await page.locator("#set-theme").selectOption("dark");
  await picture("settings");
  await page.getByRole("button", { name: "Save" }).click();
  // What a dialog closes with is taken up a moment later.
  await page.locator('html[data-theme="dark"]').waitFor();
  await page.locator("#new").click();
  await page.locator("#input").fill("Once");
  await page.keyboard.press("Enter");
  await finished();
  await picture("dark");
});

await step("320 pixels are enough", async () => {
  await page.setViewportSize({ width: 320, height: 640 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  assert.equal(wide, false);
  await picture("narrow");
  await page.locator("#open-sidebar").click();
  await page.locator(".conversation .open").last().click();
  assert.ok(await questions.count() > 0);
});

await step("a long conversation goes on; a note says what is no longer read", async () => {
  await page.setViewportSize({ width: 1100, height: 760 });
  await page.goto(short);
  await page.locator("#open-settings").click();
  await page.locator("#set-max_tokens").fill("24");
  await page.getByRole("button", { name: "Save" }).click();
  for (let turn = 1; turn <= 9; turn += 1) {
    await page.locator("#input").fill(`Question ${turn} of a conversation that becomes too long for the model`);
    await page.keyboard.press("Enter");
    await finished();
    assert.equal(await page.locator(".fault").count(), 0);
  }
  const note = page.locator("#log .forgotten");
  const place = () => note.evaluate((element) => [...element.parentElement.children].indexOf(element));
  const before = await place();
  assert.match(await note.innerText(), /no longer reads the messages above/);
  assert.ok(before >= 2 && before % 2 === 0 && before < 18);
  assert.equal(await questions.count(), 9);
  await picture("forgotten");
  await page.reload();
  await page.locator(".conversation .open").first().click();
  assert.equal(await place(), before);
  // Where a question before it is asked again, there is room.
  await questions.first().hover();
  await questions.first().getByRole("button", { name: /^Edit/ }).click();
  await page.locator(".message textarea").fill("A new beginning");
  await page.keyboard.press("Enter");
  await finished();
  assert.equal(await note.count(), 0);
});

await step("everything has a name for screen readers", async () => {
  const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, textarea, select")]
    .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length || e.title))
    .map((e) => e.outerHTML));
  assert.deepEqual(nameless, []);
});

await browser.close();
