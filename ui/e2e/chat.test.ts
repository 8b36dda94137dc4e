import AxeBuilder from "@axe-core/playwright";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Server, Stage } from "./stage";

let server: Server;

beforeAll(async () => {
  server = await Server.start(["--demo-pace-ms", "20"]);
  await server.ask("POST", "api/chat/profiles", {
    slug: "poet",
    display_name: "Poet",
    description: "Answers in verse.",
    extensions: { "webchat.starter_suggestions@v1": { items: ["Write about rain"] } },
  });
});
afterAll(() => server.stop());

test("a prompt is answered by the profile that was picked, and is there after a reload", async () => {
  const stage = await Stage.open(server);
  const { page } = stage;
  await page.getByRole("button", { name: /Profile/ }).click();
  await page.getByRole("combobox", { name: "Search profiles" }).fill("verse");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Write about rain" }).click();
  const answer = page.getByRole("article");
  await answer.getByText("Poet v1").waitFor();
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  const text = await answer.locator(".markdown").innerText();
  expect(text).toContain("offline demo model");
  await page.getByRole("link", { name: /Write about rain/ }).waitFor();
  await page.reload();
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  expect(await page.getByRole("article").locator(".markdown").innerText()).toBe(text);
  await stage.close();
});

test("an answer can be stopped, and a switch of profile is marked", async () => {
  const stage = await Stage.open(server);
  const { page } = stage;
  await stage.send("First");
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("button", { name: "Send" }).waitFor();
  await page.getByRole("button", { name: /Profile/ }).click();
  await page
    .getByRole("option", { name: /Agent|agent/ })
    .first()
    .click();
  await stage.send("Second");
  await page.getByText(/Profile changed: /).waitFor();
  await page.getByRole("article").nth(1).getByText("v1").first().waitFor();
  await stage.close();
});

test("what waits is shown and can be taken out", async () => {
  const stage = await Stage.open(server);
  const { page } = stage;
  await stage.send("Tell me everything");
  await page.getByRole("article").waitFor();
  await stage.send("And then this");
  await stage.send("And that");
  await page.getByRole("button", { name: "Remove the waiting prompt: And that" }).click();
  await page.getByText("And that").waitFor({ state: "detached" });
  await page.getByRole("article").nth(1).waitFor();
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  expect(await page.getByRole("article").count()).toBe(2);
  await stage.close();
});

test("the newest prompt can be asked again and edited with the keyboard alone", async () => {
  const stage = await Stage.open(server);
  const { page } = stage;
  await stage.send("One");
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  await page.keyboard.press("ArrowUp");
  await page.getByText("takes the place of your last one").waitFor();
  await expect.poll(() => page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe("One");
  await page.keyboard.type(" and two");
  await page.keyboard.press("Enter");
  await page.getByText("One and two", { exact: true }).first().waitFor();
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  const replaced = page.getByRole("log").locator("details").filter({ hasText: "Replaced by what follows: One" });
  await replaced.locator("summary").click();
  await replaced.getByRole("article").waitFor();
  expect(await page.getByRole("log").getByRole("article").count()).toBe(2);
  await page.keyboard.press("Control+k");
  expect(await page.evaluate(() => document.activeElement?.getAttribute("aria-label"))).toBe("Search conversations");
  await stage.close();
});

test("a title can be changed, and a conversation goes when that is confirmed", async () => {
  const stage = await Stage.open(server);
  const { page } = stage;
  await stage.send("To be renamed");
  await page.getByRole("button", { name: "Ask again" }).waitFor();
  await page.getByRole("button", { name: "More about this conversation" }).click();
  await page.getByRole("button", { name: "Rename" }).click();
  await page.getByRole("textbox", { name: "Title" }).fill("A better name");
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: /A better name/ }).waitFor();
  await page.getByRole("button", { name: "More about this conversation" }).click();
  const saved = page.waitForEvent("download");
  await page.getByRole("button", { name: "Save as Markdown" }).click();
  expect((await saved).suggestedFilename()).toBe("A better name.md");
  await page.getByRole("button", { name: "More about this conversation" }).click();
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("link", { name: /A better name/ }).waitFor({ state: "detached" });
  await page.goBack();
  await page.getByText("Nothing is stored under this address").waitFor();
  await stage.close();
});

test("nobody is kept out: no serious finding, light and dark, wide and narrow", async () => {
  for (const [width, colorScheme] of [
    [1280, "light"],
    [1280, "dark"],
    [320, "light"],
    [320, "dark"],
  ] as const) {
    const stage = await Stage.open(server, { viewport: { width, height: 800 }, colorScheme });
    await stage.send("Look at `this`\n\nplease");
    await stage.page.getByRole("button", { name: "Ask again" }).waitFor();
    const found = await new AxeBuilder({ page: stage.page }).analyze();
    const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    const told = serious.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
    expect(told, `${width} ${colorScheme}`).toEqual([]);
    const overflow = await stage.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    expect(overflow, "nothing runs out of a narrow page").toBeLessThanOrEqual(0);
    await stage.close();
  }
});
