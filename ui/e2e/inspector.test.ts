import AxeBuilder from "@axe-core/playwright";
import { expect, test } from "vitest";
import { Provider } from "./provider";
import { Server, Stage } from "./stage";

/** A server whose model calls the calculator once. */
async function calculating(): Promise<{ server: Server; provider: Provider }> {
  const provider = await Provider.start();
  const server = await Server.start([
    "--debug-api",
    "--openai-api-key",
    "k",
    "--openai-base-url",
    provider.url,
    "--ai-engine",
    "m",
  ]);
  await server.ask("POST", "api/chat/profiles", {
    slug: "sums",
    runtime: {
      system_prompt: "Be exact.",
      tools: ["calc"],
      middlewares: [{ name: "sqlite", config: { max_rows: 7 } }],
    },
  });
  provider.will({ call: { name: "calc", arguments: { a: 6, b: 7, op: "mul" } } }, { text: ["It is ", "42."] });
  return { server, provider };
}

test("a turn is looked at phase by phase, with what changed and who said what of its runtime", async () => {
  const { server, provider } = await calculating();
  const stage = await Stage.open(server);
  const { page } = stage;
  await server.ask("POST", "chat", { conv_id: "c", prompt: "What is 6*7?", runtime_key: "sums" });
  await page.getByRole("link", { name: "Inspector" }).click();
  await page.getByRole("link", { name: /What is 6\*7/ }).click();
  const answered = page.getByRole("region", { name: "What the model answered" });
  await answered.first().getByText("tool call").waitFor();
  await page.getByRole("region", { name: "After the tools" }).locator(".block", { hasText: "42" }).waitFor();
  const stays = page.getByRole("region", { name: "Stored at the end" });
  await stays.waitFor();
  const sent = page.getByRole("region", { name: "Sent to the model" }).first();
  await sent.getByText("Be exact.").waitFor();
  expect(await answered.last().locator('.block[data-mark="new"]').innerText()).toContain("It is 42.");
  const ran = page.getByRole("region", { name: "What it ran under" });
  const row = ran.getByRole("row", { name: /max_rows/ });
  await row.getByText("profile").waitFor();
  expect(await row.getByRole("cell").first().innerText()).toBe("7");
  await ran
    .getByRole("row", { name: /ai-engine/ })
    .getByText("operator")
    .waitFor();
  const found = await new AxeBuilder({ page }).analyze();
  const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  expect(serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`)).toEqual([]);
  await page.getByRole("link", { name: "Timeline" }).click();
  await page.getByText("tool_result").first().waitFor();
  await stage.close();
  await server.stop();
  provider.stop();
});

test("events come while one looks, are filtered and paused, and a run is gone through step by step", async () => {
  const { server, provider } = await calculating();
  const stage = await Stage.open(server);
  const { page } = stage;
  await server.ask("POST", "chat", {
    conv_id: "steps",
    prompt: "Slowly",
    runtime_key: "sums",
    request_overrides: { step_mode: true },
  });
  await page.goto(`${server.url}i/steps?view=events`);
  await page.getByRole("button", { name: /^Continue/ }).click();
  await page.getByText("It goes on.").waitFor();
  await page.getByRole("button", { name: /^Continue/ }).click();
  const list = page.locator(".log-lines");
  await list.getByText("llm.final").first().waitFor();
  await page.getByRole("combobox", { name: "Type of event" }).selectOption("tool.result");
  await expect.poll(() => list.locator("li").count()).toBe(1);
  await page.getByRole("combobox", { name: "Type of event" }).selectOption("");
  await page.getByRole("searchbox", { name: "Filter events" }).fill("no such words");
  await page.getByText(/^0 of \d+ events/).waitFor();
  await page.getByRole("searchbox", { name: "Filter events" }).fill("");
  await page.getByRole("button", { name: "Pause", exact: true }).click();
  const before = await page.getByText(/^\d+ of \d+ events, paused/).innerText();
  provider.will({ text: ["More."] });
  await server.ask("POST", "chat", { conv_id: "steps", prompt: "Again", runtime_key: "sums" });
  await page.getByRole("button", { name: "Go on" }).click();
  await expect.poll(() => page.getByText(/^\d+ of \d+ events$/).innerText()).not.toBe(before.replace(", paused", ""));
  await list.getByText("Again").first().waitFor();
  await stage.close();
  await server.stop();
  provider.stop();
});

test("without the debug API there is no inspector to be found", async () => {
  const server = await Server.start();
  const stage = await Stage.open(server);
  await stage.page.getByRole("link", { name: "Status" }).waitFor();
  expect(await stage.page.getByRole("link", { name: "Inspector" }).count()).toBe(0);
  await stage.close();
  await server.stop();
});
