// Opens a report in Chromium: it asks for nothing, says nothing on the console, and shows its pictures, on light and
// dark, on paper and on a narrow screen. Usage: node report.mjs FILE.html [PICTURES]
import { chromium } from "playwright-core";
import { pathToFileURL } from "node:url";
import assert from "node:assert/strict";

const [file, pictures] = process.argv.slice(2);
const url = pathToFileURL(file).href;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
for (const colorScheme of ["light", "dark"]) {
  for (const width of [1200, 380]) {
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
    const requests = [], messages = [];
    page.on("request", (request) => requests.push(request.url()));
    page.on("console", (message) => messages.push(message.text()));
    page.on("pageerror", (error) => messages.push(String(error)));
    await page.goto(url, { waitUntil: "networkidle" });
    await page.waitForTimeout(300);
    const others = requests.filter((request) => request !== url && !request.startsWith("data:"));
    assert.deepEqual(others, []);
    assert.deepEqual(messages, []);
    assert.ok(await page.locator("svg path").count() > 3);
    assert.ok(await page.locator("h1").first().isVisible());
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(wide <= 0, `wider than the screen by ${wide}`);
    // A page that a log could have brought with it would not run or load.
    assert.equal(await page.evaluate(() => document.scripts.length), 0);
    if (pictures && width > 1000) {
      await page.screenshot({ path: `${pictures}/report-${colorScheme}.png` });
    }
    await page.close();
  }
}
await browser.close();
console.log("the report asks for nothing");
