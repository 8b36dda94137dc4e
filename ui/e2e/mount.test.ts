import { expect, test } from "vitest";
import { Server, Stage } from "./stage";

test("below a prefix everything is below it", async () => {
  const server = await Server.start(["--root", "/team/chat", "--demo-pace-ms", "1"]);
  try {
    expect(server.url.endsWith("/team/chat/")).toBe(true);
    const stage = await Stage.open(server);
    await stage.send("Hello");
    await stage.page.getByRole("button", { name: "Ask again" }).waitFor();
    expect(new URL(stage.page.url()).pathname).toMatch(/^\/team\/chat\/c\//);
    await stage.page.reload();
    await stage.page.getByRole("button", { name: "Ask again" }).waitFor();
    await stage.close();
  } finally {
    await server.stop();
  }
});

test("the first load is at most 250 KB, and the editor comes when it is asked for", async () => {
  const server = await Server.start();
  const stage = await Stage.open(server);
  const { page } = stage;
  const loaded = () =>
    page.evaluate(() =>
      [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .map((entry) => entry as PerformanceResourceTiming)
        .filter((entry) => !entry.name.includes("/api/"))
        .reduce((sum, entry) => sum + entry.encodedBodySize, 0),
    );
  await page.getByRole("textbox", { name: "Prompt" }).waitFor();
  const first = await loaded();
  expect(first).toBeGreaterThan(100_000);
  expect(first).toBeLessThan(250_000);
  await page.getByRole("link", { name: "Profiles" }).click();
  await page.getByRole("link", { name: "New" }).click();
  await page.locator(".cm-content").first().waitFor();
  expect(await loaded()).toBeGreaterThan(first + 100_000);
  await stage.close();
  await server.stop();
});
