// How long the page is busy: an answer of 20,000 deltas, and a conversation of 1,000 entities. By the browser's own
// observers; printed, not judged: `npm run measure`, on a quiet machine and with a server of the release profile
// (COLLODI_BINARY=../target/release/collodi).

import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { Provider } from "./provider";
import { Server, Stage } from "./stage";

const DELTAS = 20_000;
const TURNS = 500;

/** What the observers saw since the page began, or since the last call. */
async function observed(page: Page): Promise<{ longest: number; tasks: number; shift: number }> {
  return page.evaluate(() => {
    const seen = (window as unknown as { seen: { tasks: number[]; shift: number } }).seen;
    const result = { longest: Math.round(Math.max(0, ...seen.tasks)), tasks: seen.tasks.length, shift: seen.shift };
    seen.tasks = [];
    seen.shift = 0;
    return result;
  });
}

async function observe(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const seen: { tasks: number[]; shift: number } = { tasks: [], shift: 0 };
    (window as unknown as { seen: typeof seen }).seen = seen;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) seen.tasks.push(entry.duration);
    }).observe({ type: "longtask", buffered: true });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        const { value, hadRecentInput } = entry as unknown as { value: number; hadRecentInput: boolean };
        if (!hadRecentInput) seen.shift += value;
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
}

function say(row: string, facts: Record<string, unknown>): void {
  console.log(`${row}: ${JSON.stringify(facts)}`);
}

test("an answer of 20,000 deltas", async () => {
  const provider = await Provider.start();
  const server = await Server.start(["--openai-api-key", "k", "--openai-base-url", provider.url, "--ai-engine", "m"]);
  const stage = await Stage.open(server);
  const { page } = stage;
  await observe(page);
  await page.goto(server.url);
  await page.getByRole("textbox", { name: "Prompt" }).waitFor();
  const words = Array.from({ length: DELTAS }, (_, at) => (at % 40 === 39 ? "end.\n\n" : "word "));
  provider.will({ text: words, burst: 20 });
  await observed(page);
  const begun = performance.now();
  await stage.send("Tell me everything");
  await page.getByRole("button", { name: "Ask again" }).waitFor({ timeout: 120_000 });
  const took = Math.round(performance.now() - begun);
  const text = await page.getByRole("article").locator(".markdown").innerText();
  expect(text.split(/\s+/).filter(Boolean).length).toBe(DELTAS);
  say("20,000 deltas", { took_ms: took, ...(await observed(page)) });
  await stage.close();
  await server.stop();
  provider.stop();
}, 180_000);

test("a conversation of 1,000 entities", async () => {
  const server = await Server.start(["--demo-pace-ms", "0"]);
  for (let turn = 0; turn < TURNS; turn++) {
    const prompt = { conv_id: "long", prompt: `Prompt ${turn}`, idempotency_key: `k${turn}` };
    let status = "";
    while (status !== "completed") status = ((await server.ask("POST", "chat", prompt)) as { status: string }).status;
  }
  const stage = await Stage.open(server);
  const { page } = stage;
  await observe(page);
  const begun = performance.now();
  await page.goto(`${server.url}c/long`);
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  say("1,000 entities, opened", { took_ms: Math.round(performance.now() - begun), ...(await observed(page)) });
  const top = page.getByRole("log").getByText("Prompt 0", { exact: true });
  const scrolling = performance.now();
  while ((await top.count()) === 0) {
    await page.mouse.move(700, 400);
    await page.mouse.wheel(0, -2_000);
    await page.waitForTimeout(16);
  }
  say("1,000 entities, scrolled to the first", {
    took_ms: Math.round(performance.now() - scrolling),
    ...(await observed(page)),
  });
  await stage.close();
  await server.stop();
}, 300_000);
