import AxeBuilder from "@axe-core/playwright";
import { expect, test } from "vitest";
import { Server, Stage } from "./stage";

test("the status page says that all is well, what changed, and how the server is set", async () => {
  const server = await Server.start([
    "--demo-pace-ms",
    "1",
    "--openai-api-key",
    "sk-canary-1234",
    "--ai-api-type",
    "demo",
  ]);
  try {
    await server.ask("POST", "api/chat/profiles", { slug: "seen", note: "because" });
    for (const width of [1280, 360]) {
      const stage = await Stage.open(server, { viewport: { width, height: 800 } });
      const { page } = stage;
      await page.getByRole("link", { name: "Status" }).click();
      await page.getByText("Ready: both databases answer").waitFor();
      await page.getByText("create seen v1 by web-chat: because").waitFor();
      await page.getByRole("rowheader", { name: "openai-api-key" }).waitFor();
      expect(await page.content()).not.toContain("sk-canary");
      const found = await new AxeBuilder({ page }).analyze();
      const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
      expect(serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`)).toEqual([]);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      expect(overflow).toBeLessThanOrEqual(0);
      await stage.close();
    }
  } finally {
    await server.stop();
  }
});

test("the checks run from the page with their verdicts, a snapshot is taken, and a packet is downloaded", async () => {
  const server = await Server.start(["--demo-pace-ms", "1"]);
  const stage = await Stage.open(server);
  const { page } = stage;
  await page.getByRole("link", { name: "Status" }).click();
  await page.getByRole("button", { name: "Run the checks" }).click();
  await page.getByText("Go: every check holds").waitFor();
  const findings = page.getByRole("list", { name: "Findings" });
  expect(await findings.locator('[data-verdict="pass"]').count()).toBeGreaterThan(10);
  expect(await findings.locator('.finding:not([data-verdict="pass"])').count()).toBe(0);
  await findings.getByText("line 16").click();
  await findings.locator("details[open] .hint").waitFor();

  await page.getByRole("button", { name: "Take a snapshot" }).click();
  await page.getByText(/snapshot-\d+/).waitFor();
  const saved = page.waitForEvent("download");
  await page.getByRole("combobox", { name: "Profile" }).selectOption("agent");
  await page.getByRole("button", { name: "Download the packet" }).click();
  expect((await saved).suggestedFilename()).toBe("collodi-packet-agent.tar.gz");
  await stage.close();
  await server.stop();
});

test("a check that does not hold is a no-go that says what to do", async () => {
  // A provider that nobody answers: prompts fail, and everything else holds.
  const server = await Server.start([
    "--openai-api-key",
    "k",
    "--openai-base-url",
    "http://127.0.0.1:9/v1",
    "--ai-engine",
    "m",
  ]);
  const stage = await Stage.open(server);
  const { page } = stage;
  await page.getByRole("link", { name: "Status" }).click();
  await page.getByRole("button", { name: "Run the checks" }).click();
  await page.getByText(/^No-go: line 14/).waitFor();
  const failed = page.locator('.finding[data-verdict="fail"], .finding[data-verdict="error"]').first();
  await failed.click();
  await page
    .getByText(/^What to do: /)
    .first()
    .waitFor();
  await stage.close();
  await server.stop();
}, 120_000);
