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
